"""The session of a response that is made, or closed, after its request has ended: edit only if streams may commit."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from inspect import isgenerator
from typing import Any
from weakref import ref

from flask import Flask, Response

from app.contexts import app_of_context, has_work_at_close, request_context
from app.db import session
from app.scopes import Copy, Stream, current_scope, in_stream
from app.uncommitted import report_uncommitted


def keep_session(response: Response) -> None:
    """Let the body of a response, which is made after its request has ended, keep the session until it is closed."""
    is_file = response.direct_passthrough and not isgenerator(response.response)
    is_whole = response.is_sequence or is_file
    if is_whole and not has_work_at_close(response):
        return
    stream = Stream(app_of_context())
    stream.context_of_request = request_context()  # `stream_with_context` pushes it again
    # Werkzeug does not close the response of a file.
    kept = None if is_file else session.sessions.pop(ref(current_scope()), None)
    if kept is not None:
        session.sessions[ref(stream, session.sessions.pop)] = kept
    if not is_whole:
        response.response = _pieces(stream, response.response)
        next(response.response)
    if has_work_at_close(response):  # not always: the cycle would keep a stream that nobody closes
        close = response.close

        def close_in_stream() -> None:
            with in_stream(stream):
                try:
                    close()
                finally:
                    _end(stream)

        setattr(response, "close", close_in_stream)  # noqa: B010 (a method)


def _pieces(stream: Stream, body: Iterable[Any]) -> Iterator[Any]:
    """Make the pieces of `body`, each in the scope of `stream`; the first is nothing.

    It has been made when the response leaves: from there on the end is reached even if nobody reads the body.
    """
    error: BaseException | None = None
    try:
        yield b""
        with in_stream(stream):
            pieces = iter(body)
        while True:
            with in_stream(stream):
                piece = next(pieces, stream)
            if piece is stream:
                break
            yield piece
    except GeneratorExit:  # the client is gone
        raise
    except BaseException as raised:
        error = raised
        raise
    finally:
        with in_stream(stream):
            try:
                getattr(body, "close", lambda: None)()
            finally:
                _end(stream, error)


@contextmanager
def own_session(app: Flask | None) -> Iterator[None]:
    """Let the block have a session of its own, which ends with it: for work after the commit."""
    stream, failed = Stream(app), None
    with in_stream(stream):
        try:
            yield
        except BaseException as error:
            failed = error
            raise
        finally:
            _end(stream, failed)


def _end(scope: Stream | Copy, error: BaseException | None = None) -> None:
    """Report what was written in a scope and nobody has committed, unless an error explains it, and end its session."""
    left = session.sessions.get(ref(scope))
    if left is not None:
        try:
            report_uncommitted(left, scope.app, expected=error, answered=True)
        finally:
            session.sessions.pop(ref(scope), None)
            left.close()


Copy.at_end = staticmethod(_end)
