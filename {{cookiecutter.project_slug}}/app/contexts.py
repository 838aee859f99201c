"""Everything the app knows of Flask's insides: edit only if tests/test_contexts.py fails on a new Flask."""

from collections.abc import Callable
from contextvars import ContextVar
from copy import deepcopy
from functools import partial
from typing import Any
from weakref import ref

import flask.globals
from flask import Flask, Response, current_app, has_request_context, request
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import HTTPException, InternalServerError

# The variables behind `current_app` and `request`: the proxies are slow, and this is asked several times a request.
_app_context: ContextVar[Any] = vars(flask.globals)["_cv_app"]
# Flask 3.1 keeps a request in a context of its own; from 3.2 on the application context carries it.
_request_context: ContextVar[Any] = vars(flask.globals).get("_cv_request", _app_context)


def _request_context_of_3_2() -> Any:
    """Return the application context if it carries a request."""
    return _app_context.get(None) if has_request_context() else None


request_context: Callable[[], Any] = (
    _request_context_of_3_2 if _request_context is _app_context else partial(_request_context.get, None)
)
"""Return the context of the current request; None outside requests. No function of its own, it is asked so often."""


def current_context() -> Any:
    """Return the innermost context, of a request or of an application; None outside both."""
    app_context, request_context = _app_context.get(None), _request_context.get(None)
    if request_context is None or request_context is app_context or not request_context._cv_tokens:
        return None if _is_over(app_context) else app_context
    _, pushed_with_it = request_context._cv_tokens[-1]
    if pushed_with_it is not None:
        return request_context if pushed_with_it is app_context else app_context
    around = getattr(app_context, "request_around", None)
    return app_context if around is not None and around() is request_context else request_context


def _is_over(context: Any) -> bool:
    """Return whether a context has ended: a thread with a copy of the context variables may still see it (Flask 3.1)."""
    return not getattr(context, "_cv_tokens", True)


def app_of_context() -> Flask | None:
    """Return the application of the innermost context, also of one that has ended; None if there was none."""
    return getattr(_app_context.get(None), "app", None)


def in_request() -> bool:
    """Return whether the innermost context is that of a request."""
    return has_request_context() and current_context() is _request_context.get()


def note_nested_contexts(app: Flask) -> None:
    """Note, on an application context of `app` that is made while a request is running, which request that is.

    Flask 3.1 lets a request reuse an application context that the caller had pushed. Then the request is the inner one,
    unless the application context is younger.
    """

    def make_then_note(make: Callable[..., Any], *args: Any) -> Any:
        context = make(*args)
        around = _request_context.get(None)
        if around is not None:
            context.request_around = ref(around)
        return context

    _wrap(app, "app_context", make_then_note)


def around_teardown(app: Flask, wrapper: Callable[..., None]) -> None:
    """Let `wrapper(teardown, error)` end the contexts of `app`: it calls `teardown(error)`.

    A function given to `teardown_request` does not run when another one raised (Flask 3.1); a wrapper can.
    """
    _wrap(app, "do_teardown_request", wrapper)
    _wrap(app, "do_teardown_appcontext", wrapper)


def handler_of(app: Flask, error: Exception) -> Callable[..., Any] | None:
    """Return the function that answers an error in `app`; None if there is none."""
    return app._find_error_handler(error, request.blueprints)


def on_internal_server_error(app: Flask, function: Callable[[], None]) -> None:
    """Call `function()` before `app` answers `abort(500)`, also a kind of it that has no handler of its own."""

    def call_if_500(error: Exception) -> None:
        if isinstance(error, InternalServerError) and handler_of(app, error) is handler_of(app, InternalServerError()):
            function()

    before_exceptions(app, call_if_500)


def answer_aborts_whole(app: Flask) -> None:
    """Answer `abort(redirect(...))` with a response that is whole: Flask runs it as a WSGI app, and has a stream."""

    def handle_then_copy(handle: Callable[..., Any], *args: Any) -> Any:
        answer = handle(*args)
        response: Any = answer.get_response(request.environ) if isinstance(answer, HTTPException) else None
        if response is None or has_work_at_close(response):
            return answer
        # Not the response itself, which may be raised for each client: this one's cookies are added to it.
        return app.response_class(response.response, response.status, response.headers.copy())

    _wrap(app, "handle_http_exception", handle_then_copy)


def before_exceptions(app: Flask, function: Callable[[Exception], None]) -> None:
    """Call `function(error)` before any handler of `app` takes an error."""

    def note_then_handle(handle: Callable[..., Any], *args: Any) -> Any:
        function(args[-1])  # Flask 3.2 passes its context first.
        return handle(*args)

    _wrap(app, "handle_user_exception", note_then_handle)
    _wrap(app, "handle_exception", note_then_handle)


def translate_exceptions(app: Flask, translate: Callable[[Exception], Exception | None]) -> None:
    """Handle `translate(error)`, if it is not None, in the place of an error that no handler of `app` takes.

    Flask asks no handler but that for 500 about what a function of `after_request` raises, or the client's session.
    """

    def handle_translated(handle: Callable[..., Any], *args: Any) -> Any:
        *flask_context, error = args  # Flask 3.2 passes its context first.
        known = None if handler_of(app, error) else translate(error)
        return handle(*flask_context, known or error)

    def answer_translated(handle: Callable[..., Any], *args: Any) -> Any:
        *flask_context, error = args
        known = translate(error)
        if known is None:
            return handle(*args)
        flask: Any = app
        return flask.finalize_request(*flask_context, flask.handle_user_exception(*flask_context, known), True)

    _wrap(app, "handle_user_exception", handle_translated)
    _wrap(app, "handle_exception", answer_translated)


def around_dispatch(app: Flask, wrapper: Callable[..., Any]) -> None:
    """Let `wrapper(full_dispatch_request, *context)` answer the requests of `app`; Flask 3.2 passes its context.

    Flask's `full_dispatch_request` calls the view, answers its errors by the handlers for them, runs the `after_request`
    functions, saves the client's session and sends `request_finished`: what runs after it runs last. An error that it
    raises is answered by the handler for 500 alone.
    """
    _wrap(app, "full_dispatch_request", wrapper)


def around_unhandled(app: Flask, wrapper: Callable[..., Any]) -> None:
    """Let `wrapper(handle_exception, *args)` answer the exceptions that no handler of `app` takes but that for 500."""
    _wrap(app, "handle_exception", wrapper)


def _wrap(app: Flask, name: str, wrapper: Callable[..., Any]) -> None:
    """Put `wrapper(method, *args)` in the place of a method of `app`."""
    setattr(app, name, partial(wrapper, getattr(app, name)))


def has_work_at_close(response: Response) -> bool:
    """Return whether functions were given to `response.call_on_close`."""
    return bool(response._on_close)


def stored_session(context: Any) -> dict[str, Any] | None:
    """Return a copy of what the client's session holds; None if the client's cookie holds it and can be read again."""
    if type(context.app.session_interface).open_session is SecureCookieSessionInterface.open_session:
        return None
    content = dict(context._session or {})
    try:
        return deepcopy(content)
    except Exception:  # noqa: BLE001 (of any value that has no copy: a lock, a connection)
        return content


def forget_answer(stored: dict[str, Any] | None) -> None:
    """Forget what the request did for its answer: `after_this_request`, flashed messages, the client's session.

    `stored` is what the session held before, if it is kept on a server: there it has been saved already.
    """
    context = request_context()
    context._after_request_functions = []
    for flashes in ("flashes", "_flashes"):  # Flask 3.1, and 3.2
        if hasattr(context, flashes):
            setattr(context, flashes, None)
    app, interface = current_app, current_app.session_interface
    fresh = interface.open_session(app, request)
    context._session = interface.make_null_session(app) if fresh is None else fresh
    if fresh is not None and stored is not None:
        fresh.clear()
        fresh.update(stored)
        interface.save_session(app, fresh, app.response_class())
