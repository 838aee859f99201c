"""What a session belongs to: edit only if a session of yours lives longer than its request."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar
from weakref import ref

from flask import Flask

from app.contexts import app_of_context, current_context


class Stream:
    """Work after the response has decided, such as making a body or calling a callback: what its session belongs to."""

    context_around: Any = None
    context_left: Any = None
    context_of_request: Any = None

    def __init__(self, app: Flask | None) -> None:
        """Note whose work it is."""
        self.app = app


_stream: ContextVar[Stream | None] = ContextVar("app.stream", default=None)


class Copy:
    """A copy of a context that has ended, in the thread or task to which it was given: what its session belongs to."""

    at_end: ClassVar[Callable[["Copy"], None]]

    def __init__(self, app: Flask, owner: object) -> None:
        """Note whose copy it is: a task holds its context, and with it the copy."""
        self.app, self.owner = app, ref(owner)

    def __del__(self) -> None:
        """End its session: the copy has gone, with the work that it was made for."""
        type(self).at_end(self)


_copy: ContextVar[Copy | None] = ContextVar("app.copy", default=None)


def current_scope() -> Any:
    """Return what a session belongs to: the stream, else the innermost context or its copy, the asyncio task, the thread."""
    context = current_context()
    stream = _stream.get()
    if stream is not None and (context is stream.context_around or context is stream.context_of_request):
        return stream
    if context is not None:
        return context
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    owner, app = task or threading.current_thread(), app_of_context()
    if app is None:
        return owner
    copy = _copy.get()
    if copy is None or copy.owner() is not owner:
        copy = Copy(app, owner)
        _copy.set(copy)
    return copy


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
