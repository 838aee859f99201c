"""Everything the app knows of Flask's insides: edit only if tests/test_contexts.py fails on a new Flask."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary, ref

import flask.globals
from flask import Flask, Response, appcontext_pushed, current_app, has_app_context, has_request_context, request
from werkzeug.exceptions import InternalServerError

_app_context: Any = flask.globals.app_ctx
# Flask 3.1 keeps a request in a context of its own; from 3.2 on the application context carries it.
_request_context: Any = vars(flask.globals).get("request_ctx", _app_context)

# Flask 3.1 lets a request reuse an application context that the caller had pushed. So the request
# is the inner one, unless that application context was pushed while the request was running.
_request_around: WeakKeyDictionary[Any, ref[Any] | None] = WeakKeyDictionary()


class Stream:
    """A body that is made, and closed, after its request has ended: what its session belongs to."""

    context_around: Any = None
    context_left: Any = None


_stream: ContextVar[Stream | None] = ContextVar("app.stream", default=None)


def _remember_request_around(_sender: Flask, **_: object) -> None:
    """Note the request in which an application context is pushed for the first time, if there is one."""
    pushed = _app_context._get_current_object()
    if len(getattr(pushed, "_cv_tokens", ())) <= 1:  # not again: `stream_with_context` pushes it within its request
        _request_around[pushed] = ref(_request_context._get_current_object()) if has_request_context() else None


appcontext_pushed.connect(_remember_request_around)


def current_context() -> Any:
    """Return the innermost context, of a request or of an application; None outside both."""
    if not has_app_context():
        return None
    app_context = _app_context._get_current_object()
    if not has_request_context():
        return app_context
    request_context = _request_context._get_current_object()
    around = _request_around.get(app_context)
    return request_context if around is None or around() is not request_context else app_context


def in_request() -> bool:
    """Return whether the innermost context is that of a request."""
    return has_request_context() and current_context() is _request_context._get_current_object()


def current_scope() -> Any:
    """Return what a session belongs to: the stream, else the innermost context, the asyncio task, the thread."""
    context = current_context()
    stream = _stream.get()
    if stream is not None and context is stream.context_around:
        return stream
    if context is not None:
        return context
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return task or threading.current_thread()


@contextmanager
def in_stream(stream: Stream) -> Iterator[None]:
    """Let the session belong to `stream` while a piece of its body is made, or the body is closed.

    Not within a context that the body pushes: `stream_with_context` leaves that of the request from piece to
    piece. But a body may be closed within any other, by the garbage collector for example.
    """
    if current_context() is not stream.context_left:
        stream.context_around = current_context()
    token = _stream.set(stream)
    try:
        yield
    finally:
        _stream.reset(token)
        stream.context_left = current_context()


def around_teardown(app: Flask, wrapper: Callable[..., None]) -> None:
    """Let `wrapper(teardown, error)` end the contexts of `app`; the first that was given is the innermost.

    A function given to `teardown_request` does not run when another one raised (Flask 3.1); a wrapper can.
    """

    def wrap_teardown(teardown: Callable[..., None], *args: Any) -> None:
        wrapper(lambda: teardown(*args), args[-1] if args else None)

    _wrap(app, "do_teardown_request", wrap_teardown)
    _wrap(app, "do_teardown_appcontext", wrap_teardown)


def on_internal_server_error(app: Flask, function: Callable[[], None]) -> None:
    """Call `function()` before `app` answers `abort(500)`."""

    def note_then_handle(handle: Callable[..., Any], *args: Any) -> Any:
        if type(args[-1]) is InternalServerError:
            function()
        return handle(*args)

    _wrap(app, "handle_http_exception", note_then_handle)


def around_answer(app: Flask, wrapper: Callable[..., Any]) -> None:
    """Let `wrapper(finalize_request, *args, from_error_handler=...)` make the app's answers.

    Flask's `finalize_request` makes the response, runs the `after_request` functions, saves the client's
    session and sends `request_finished`: what runs after it runs last.
    """
    _wrap(app, "finalize_request", wrapper)


def _wrap(app: Flask, name: str, wrapper: Callable[..., Any]) -> None:
    """Put `wrapper(method, *args)` in the place of a method of `app`."""
    method = getattr(app, name)

    @wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        return wrapper(method, *args, **kwargs)

    setattr(app, name, wrapped)


def has_work_at_close(response: Response) -> bool:
    """Return whether functions were given to `response.call_on_close`."""
    return bool(response._on_close)


def forget_answer() -> None:
    """Forget what the request did for its answer: `after_this_request`, flashed messages, the client's session."""
    context = _request_context._get_current_object()
    context._after_request_functions = []
    for flashes in ("flashes", "_flashes"):  # Flask 3.1, and 3.2
        if hasattr(context, flashes):
            setattr(context, flashes, None)
    interface = current_app.session_interface
    fresh = interface.open_session(current_app, request)
    context._session = interface.make_null_session(current_app) if fresh is None else fresh
