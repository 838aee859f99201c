"""One transaction for each request, which its response commits or rolls back: edit only if your rule differs.

What happens to a request, in order:

1. `conflicts.init_app` numbers the attempt, `_dispatch` notes that a response will decide (`decisions.py`).
2. Flask calls the view, the handlers of its errors and the `after_request` functions, and saves the client's session.
3. `_decide` looks at the status and commits or rolls back. A commit that fails is answered by the error handlers.
4. The callbacks of `on_commit` run, each with a session of its own (`callbacks.py`).
5. A body that is made later keeps the session (`streams.py`); otherwise it is removed as the context ends (`db.py`), and
   what nobody has committed is reported (`uncommitted.py`).

An error that comes from a conflict leaves this at any point before the commit, and the request begins again at 1.
"""

import logging
from collections.abc import Callable
from functools import partial, wraps
from itertools import chain
from operator import itemgetter
from typing import Any, ParamSpec, TypeVar
from weakref import ref

from flask import Flask, Response, current_app, request
from sqlalchemy.orm import Session
from werkzeug.datastructures import Headers
from werkzeug.exceptions import InternalServerError

from app import conflicts
from app.blocks import transaction
from app.callbacks import on_commit, run_callbacks
from app.commits import commit
from app.contexts import (
    around_dispatch,
    around_unhandled,
    forget_answer,
    in_request,
    on_internal_server_error,
    request_context,
)
from app.db import session
from app.decisions import Decision, current_decision, note_unhandled, open_decision, request_decision, set_rollback
from app.scopes import Stream, current_scope
from app.streams import keep_session
from app.turns import current_attempt
from app.uncommitted import report_uncommitted

P = ParamSpec("P")
R = TypeVar("R")

_get_headers = Response.get_wsgi_headers

logger = logging.getLogger(__package__)  # that of the application, without the way through `current_app`

__all__ = ["attempts", "init_app", "on_commit", "session_commit", "set_rollback", "transaction"]


def init_app(app: Flask) -> None:
    """Let the responses of `app` decide what becomes of `session`; `session.init_app(app)` removes it then."""
    on_internal_server_error(app, note_unhandled)
    around_dispatch(app, _dispatch)
    around_unhandled(app, _answer_unhandled)
    app.extensions["before_rollback"] = _report
    conflicts.init_app(app)


def session_commit(response: Response) -> Response:
    """Commit the session if the status is below 400, else roll it back; return the response.

    `init_app` does so last of all. Alone, as `app.after_request(session_commit)`, it works too, but what
    the functions that run after it write is not committed.

    :raises sqlalchemy.exc.SQLAlchemyError: if the commit fails; the session is then rolled back.
    """
    _decide(session.existing(), response, request_decision() or Decision())
    return response


def attempts(limit: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a request run at most `limit` times; `@attempts(1)` never repeats it. It stands below the route of a view."""

    def decorate(view: Callable[P, R]) -> Callable[P, R]:
        @wraps(view)
        def limited(*args: P.args, **kwargs: P.kwargs) -> R:
            if attempt := current_attempt():
                attempt.limit = limit
            return (current_app.ensure_sync(view) if current_app else view)(*args, **kwargs)

        return limited

    return decorate


def _decide(current: Session | None, response: Response, decision: Decision) -> None:
    """Commit or roll back a session, if there is one."""
    if current is None:
        return
    if reason := _reason_to_roll_back(response, decision):
        logger.debug("rollback because of %s", reason)
        current.rollback()
        return
    logger.debug("commit")
    try:
        commit(current, partial(_check_headers, response))
    except BaseException:
        current.rollback()
        raise
    if "callbacks" in current.info:
        run_callbacks(current)


def _check_headers(response: Response) -> None:
    """Raise what sending the headers would raise, after the commit: they are latin-1, and `Location` is a URL."""
    if _has_plain_headers(response):
        return  # to make them costs as much as the rest of a decision
    headers = response.get_wsgi_headers(request.environ if request else {})
    "".join((response.status, *chain(*headers))).encode("latin-1")


def _has_plain_headers(response: Response) -> bool:
    """Return whether the headers of a response are sent as they are."""
    if (
        type(response.headers) is not Headers
        or getattr(response.get_wsgi_headers, "__func__", None) is not _get_headers
    ):
        return False
    headers = [*response.headers]
    sent = "".join((response.status, *chain(*headers)))
    return sent.isascii() and "location" not in sent.lower() and "Content-Length" in map(itemgetter(0), headers)


def _reason_to_roll_back(response: Response, decision: Decision) -> str | None:
    """Return why the response must not commit; None if it commits."""
    if decision.commit_failed:
        return "a commit that failed"
    if response.status_code >= 400 and decision.rollback is not False:
        return f"status {response.status_code}"
    if decision.unhandled:
        return "an unhandled exception"
    return "set_rollback(True)" if decision.rollback else None


def _dispatch(full_dispatch_request: Callable[..., Response], *context: Any) -> Response:
    """Answer a request, then commit; answer a commit that fails as if the view had raised its error.

    What `full_dispatch_request` raises commits nothing: `_answer_unhandled` rolls back.
    """
    scope = request_context()
    decision = open_decision(scope)
    response = full_dispatch_request(*context)
    try:
        _decide(session.sessions.get(ref(scope)), response, decision)
    except Exception as error:  # noqa: BLE001 (every error is answered)
        decision.commit_failed = True
        logger.debug("rollback because the commit failed: %s", error)
        _close(response)
        forget_answer(decision.stored_session)
        response = _answer_failed_commit(error, decision, *context)
        _decide(session.sessions.get(ref(scope)), response, decision)
    return _leave(response, decision)


def _answer_unhandled(handle_exception: Callable[..., Response], *args: Any) -> Response:
    """Answer an exception that no handler but that for 500 takes, and roll back whatever that handler says."""
    scope = request_context()
    decision = request_decision() or open_decision(scope)
    decision.unhandled = True
    response = handle_exception(*args)
    if decision.commit_failed:
        response = _without_success(response, decision, *args[:-1])
    _decide(session.sessions.get(ref(scope)), response, decision)
    return _leave(response, decision)


def _leave(response: Response, decision: Decision) -> Response:
    """Return the answer: from here on no response decides."""
    decision.made = True
    keep_session(response)
    return response


def _close(response: Response) -> None:
    """Close a response that is not sent; log what fails, it would hide why."""
    try:
        response.close()
    except Exception:
        logger.exception("the response that could not be committed failed to close")


def _answer_failed_commit(error: Exception, decision: Decision, *context: Any) -> Response:
    """Let the app's handlers answer the error of a commit; if none of them takes it, `_answer_unhandled` does."""
    app: Any = current_app
    response = app.finalize_request(*context, app.handle_user_exception(*context, error))
    return _without_success(response, decision, *context)


def _without_success(response: Response, decision: Decision, *context: Any) -> Response:
    """Return the answer to a commit that has failed; another one if it is a success."""
    app: Any = current_app
    # A handler of the error has redirected, or said that all is well; then that for 500; then perhaps a hook.
    for answer in (partial(app.handle_user_exception, *context), InternalServerError.get_response):
        if response.status_code < 400:
            forget_answer(decision.stored_session)
            response = app.finalize_request(*context, answer(InternalServerError()), from_error_handler=True)
    return response if response.status_code >= 400 else app.make_response(InternalServerError().get_response())


def _report(left: Session, began: bool, error: BaseException | None) -> None:
    """Report what nobody has committed, as a context ends; `began` says that the session is older than the teardown.

    An error that ends the context explains the loss, but not that of work which came after the decision.
    """
    decision = current_decision()
    in_body = isinstance(current_scope(), Stream)  # `stream_with_context` ends its context with the body
    after_decision = not began or in_body or (decision is not None and decision.made)
    in_dispatched_request = in_request() and "app.dispatched" in request.environ
    expected = None if after_decision else error
    report_uncommitted(left, current_app, expected=expected, answered=after_decision or in_dispatched_request)
