"""One transaction for each request, which its response commits or rolls back: edit only if your rule differs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from flask import Flask, Response, current_app, request, request_started
from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction
from werkzeug.exceptions import InternalServerError

from app.contexts import (
    around_answer,
    around_teardown,
    current_scope,
    forget_answer,
    in_request,
    on_internal_server_error,
)
from app.db import engine, session, session_factory
from app.streams import keep_session
from app.uncommitted import report_uncommitted

SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
"""The methods of requests that only read (RFC 9110, 9.2.1)."""


@dataclass
class _Decision:
    """What is to become of the session of a request that is being handled."""

    rollback: bool | None = None
    unhandled: bool = False
    commit_failed: bool = False
    made: bool = False


_decisions: WeakKeyDictionary[Any, _Decision] = WeakKeyDictionary()


def init_app(app: Flask) -> None:
    """Let the responses of `app` decide what becomes of `session`. Call it before `session.init_app(app)`."""
    request_started.connect(_await_response, app)
    on_internal_server_error(app, _note_unhandled)
    around_answer(app, _answer)
    around_teardown(app, _end_context)


def session_commit(response: Response) -> Response:
    """Commit the session if the status is below 400, else roll it back; return the response.

    `init_app` calls it last of all. Alone, as `app.after_request(session_commit)`, it works too, but what
    the functions that run after it write is not committed.

    :raises sqlalchemy.exc.SQLAlchemyError: if the commit fails; the session is then rolled back.
    """
    if not session.registry.has():
        return response
    reason = _reason_to_roll_back(response, _decisions.get(current_scope()) or _Decision())
    if reason is not None:
        current_app.logger.debug("rollback because of %s", reason)
        session.rollback()
        return response
    current_app.logger.debug("commit")
    try:
        session.commit()
    except BaseException:
        session.rollback()
        raise
    return response


def set_rollback(rollback: bool) -> None:
    """Roll back (True) or commit (False) whatever the status of the response will be.

    An exception that only the 500 handler answers is rolled back all the same.

    :raises RuntimeError: where no response decides: outside a request, in a stream, in a nested context.
    """
    decision = _decisions.get(current_scope())
    if decision is None or decision.made:
        raise RuntimeError("set_rollback() works while a request is handled; here no response decides.")
    decision.rollback = rollback


def _reason_to_roll_back(response: Response, decision: _Decision) -> str | None:
    """Return why the response must not commit; None if it commits."""
    if decision.commit_failed:
        return "a commit that failed"
    if response.status_code >= 400 and decision.rollback is not False:
        return f"status {response.status_code}"
    if decision.unhandled:
        return "an unhandled exception"
    return "set_rollback(True)" if decision.rollback else None


def _await_response(_sender: Flask, **_: object) -> None:
    """Note that a response will decide about the session of this request."""
    _decisions[current_scope()] = _Decision()
    request.environ["app.dispatched"] = True


def _note_unhandled() -> None:
    """Note that the handler for 500 will answer: whatever it says, the response must not commit."""
    decision = _decisions.get(current_scope())
    if decision is not None:
        decision.unhandled = True


def _answer(finalize_request: Callable[..., Response], *args: Any, from_error_handler: bool = False) -> Response:
    """Make the response, then commit; answer a commit that fails as if the view had raised its error."""
    *flask_context, _ = args  # Flask 3.2 passes its context first.
    decision = _decisions.setdefault(current_scope(), _Decision())
    # Flask calls this with True for the answer to an exception that no other handler has taken.
    decision.unhandled |= from_error_handler

    response = finalize_request(*args, from_error_handler=from_error_handler)
    if decision.commit_failed and response.status_code < 400:
        response = finalize_request(*flask_context, InternalServerError(), from_error_handler=True)
        if response.status_code < 400:
            response = current_app.make_response(InternalServerError())
    try:
        response = session_commit(response)
    except Exception as error:  # noqa: BLE001 (every error is answered)
        decision.commit_failed = True
        current_app.logger.warning("commit failed: %s", error)
        response.close()
        forget_answer()
        handle_user_exception: Callable[..., Any] = current_app.handle_user_exception
        return _answer(finalize_request, *flask_context, handle_user_exception(*flask_context, error))

    decision.made = True
    keep_session(response)
    return response


def _end_context(teardown: Callable[[], None], error: BaseException | None) -> None:
    """Run the teardown functions, then report what nobody has committed."""
    began = session.registry.has()
    try:
        teardown()
    finally:
        if session.registry.has():
            decision = _decisions.get(current_scope())
            late = not began or (decision is not None and decision.made)
            dispatched = in_request() and "app.dispatched" in request.environ
            report_uncommitted(current_app, expected=None if late else error, answered=late or dispatched)


if engine.dialect.name == "sqlite":

    @event.listens_for(session_factory, "after_transaction_create")
    def _choose_begin(begun: Session, transaction: SessionTransaction) -> None:
        """Take SQLite's only write lock at once in a request that may write; let the others wait, not fail.

        A transaction that has read and then writes is refused if another has written meanwhile
        (https://www.sqlite.org/isolation.html, SQLITE_BUSY_SNAPSHOT).
        """
        if transaction.parent is None:
            may_write = _may_write(begun)
            if may_write or "sqlite_begin" in begun.execution_options:
                mode = {"sqlite_begin": "IMMEDIATE" if may_write else "DEFERRED"}
                begun.execution_options = begun.execution_options.union(mode)


def _may_write(begun: Session) -> bool:
    """Return whether this is the session of a request whose response decides and whose method may write."""
    scope = current_scope()
    if session.registry.registry.get(scope) is not begun or not in_request() or request.method in SAFE_METHODS:
        return False
    decision = _decisions.get(scope)
    if decision is None:  # a URL converter, before the request is dispatched; or a copy of its context, after
        return "app.dispatched" not in request.environ
    return not (decision.made or decision.commit_failed)
