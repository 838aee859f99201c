"""The engine, the session factory and the session of the current request: edit only if you need a second database.

There is one engine in a process. It is made from `DATABASE_URL` on import and connects on first use, with a
Flask application or without one.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast
from weakref import ref

from flask import Flask, current_app, has_app_context
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from app.config import database_url
from app.contexts import around_teardown, note_nested_contexts
from app.engines import make_engine
from app.scopes import current_scope


class flask_scoped_session(scoped_session[Session]):  # noqa: N801 (the name of the library it replaces)
    """A `scoped_session` whose scope is the request, or the application context that was pushed.

    Each context has a session of its own, made on first use and removed when the context ends. Outside a
    context the session belongs to the current asyncio task or thread, and is removed with `remove()`.
    """

    def __init__(self, session_factory: Callable[..., Session], app: Flask | None = None) -> None:
        """Make sessions with `session_factory`, and call `init_app(app)` if there is an app already."""
        # An id can come again, and then a new request would find the session of an old one. A weak reference takes
        # its session along; to look for that, one without `pop` is enough.
        self.sessions: dict[ref[Any], Session] = {}
        super().__init__(
            cast("sessionmaker[Session]", session_factory),
            scopefunc=lambda: ref(current_scope(), self.sessions.pop),
        )
        self.registry.registry = self.sessions
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Remove the session at the end of each context of `app`, and make it the app's `current_session`."""
        app.extensions["scoped_session"] = self
        app.extensions.setdefault("before_rollback", lambda *_: None)

        def teardown_then_remove(teardown: Callable[..., None], *args: Any) -> None:
            scope: Any = ref(current_scope()) if self.sessions else None  # most requests that need none find none
            began = scope in self.sessions
            try:
                teardown(*args)
            finally:
                left = self.sessions.get(scope := scope or ref(current_scope())) if self.sessions else None
                if left is not None:
                    try:
                        if left.in_transaction():
                            app.extensions["before_rollback"](left, began, args[-1] if args else None)
                    finally:
                        self.sessions.pop(scope, None)
                        left.close()

        note_nested_contexts(app)
        around_teardown(app, teardown_then_remove)

    def existing(self) -> Session | None:
        """Return the session of the current scope; None if there is none yet."""
        return self.sessions.get(ref(current_scope())) if self.sessions else None

    def remove(self) -> None:
        """Close the session of the current scope, if there is one; what it has not committed is rolled back."""
        removed = self.sessions.pop(ref(current_scope()), None)
        if removed is not None:
            removed.close()


def _scoped_session_of_app() -> scoped_session[Session]:
    """Return what `init_app` gave to the current application.

    :raises RuntimeError: outside an application context, and for an app without a session.
    """
    if not has_app_context():
        raise RuntimeError("current_session belongs to an application: enter app.app_context(), or use app.db.session.")
    if "scoped_session" not in current_app.extensions:
        raise RuntimeError(f"The app {current_app.name!r} has no session: call session.init_app(app) on it.")
    return cast("scoped_session[Session]", current_app.extensions["scoped_session"])


current_session = cast("scoped_session[Session]", LocalProxy(_scoped_session_of_app))
"""The session of the current application, as `current_app` is the application itself."""


class AppSession(Session):
    """A session that survives a connection which has died.

    Its `info` says what it is in: `block`: a `with transaction():`, and what is known of the transaction that has lost a
    conflict in it; `blocks`: those that are open; `callbacks`: what `on_commit` keeps; `committed`: the transaction, or the
    savepoint, that was committed last.
    """

    def rollback(self) -> None:
        """Roll back the whole transaction, and forget what `on_commit` keeps for it; a dead connection has done so."""
        committed = self.info.get("committed")
        if committed is not None and committed is self.get_transaction():
            self.close()  # a listener of `after_commit` has raised: there is nothing to roll back
            return
        self.info.pop("callbacks", None)
        with suppress(DBAPIError):
            super().rollback()

    def close(self) -> None:
        """Release the connections and the objects; a dead connection is released too."""
        try:
            super().close()
        except DBAPIError:
            self.invalidate()


engine = make_engine(database_url())
session_factory = sessionmaker(engine, class_=AppSession)
session = flask_scoped_session(session_factory)

_of_the_parent: list[Any] = []


def _leave_connections_to_parent() -> None:
    """Start a forked child with no connection.

    The parent's are kept, unused, until the child ends: closing one here would end the parent's too.
    """
    _of_the_parent.append((engine.pool, *session.sessions.values()))
    engine.dispose(close=False)
    session.sessions.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections_to_parent)
