"""The engine, the session factory and the session of the current request: edit only if you need a second database.

There is one engine in a process. It is made from `DATABASE_URL` on import and connects on first use, with a
Flask application or without one.
"""

import os
import sqlite3
from collections.abc import Callable
from typing import Any, cast
from weakref import WeakKeyDictionary

from flask import Flask, current_app, has_app_context
from sqlalchemy import URL, Connection, Engine, create_engine, event
from sqlalchemy.orm import Session, scoped_session, sessionmaker
from werkzeug.local import LocalProxy

from app.config import choice, database_url, number
from app.contexts import around_teardown, current_scope
from app.savepoints import SavepointSession


class flask_scoped_session(scoped_session[Session]):  # noqa: N801 (the name of the library it replaces)
    """A `scoped_session` whose scope is the request, or the application context that was pushed.

    Each context has a session of its own, made on first use and removed when the context ends. Outside a
    context the session belongs to the current asyncio task or thread, and is removed with `remove()`.
    """

    def __init__(self, session_factory: Callable[..., Session], app: Flask | None = None) -> None:
        """Make sessions with `session_factory`, and call `init_app(app)` if there is an app already."""
        super().__init__(cast("sessionmaker[Session]", session_factory), scopefunc=current_scope)
        # Held weakly: an id can come again, and then a new request would find the session of an old one.
        self.registry.registry = WeakKeyDictionary()
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Remove the session at the end of each context of `app`, and make it the app's `current_session`."""
        app.extensions["scoped_session"] = self

        def teardown_then_remove(teardown: Callable[[], None], _error: BaseException | None) -> None:
            try:
                teardown()
            finally:
                self.remove()

        around_teardown(app, teardown_then_remove)

    def remove(self) -> None:
        """Close the session of the current scope, if there is one; what it has not committed is rolled back."""
        removed = self.registry.registry.pop(current_scope(), None)
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


def _make_engine(url: URL) -> Engine:
    """Return the engine for `url`, with the settings this app relies on."""
    if url.get_backend_name() != "sqlite":
        return create_engine(url, pool_pre_ping=True)

    sqlite_engine = create_engine(url)
    synchronous = choice("SQLITE_SYNCHRONOUS", "FULL", "NORMAL", "OFF", "EXTRA")
    busy_timeout = number("SQLITE_BUSY_TIMEOUT", default=5000, unit="milliseconds")

    @event.listens_for(sqlite_engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # The driver begins nothing by itself; `begin` does. Its own rule, only before INSERT, UPDATE and DELETE,
        # leaves DDL and SAVEPOINT outside, and lets each SELECT of a transaction see another database.
        connection.isolation_level = None
        # First, because the change to WAL waits for a lock.
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout}")
        # WAL: readers and the writer do not wait for each other. FULL: a commit survives a power cut.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA foreign_keys = ON")

    @event.listens_for(sqlite_engine, "begin")
    def begin(connection: Connection) -> None:
        options = connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            connection.exec_driver_sql(f"BEGIN {options.get('sqlite_begin', 'DEFERRED')}")

    return sqlite_engine


engine = _make_engine(database_url())
session_factory = sessionmaker(engine, class_=SavepointSession)
session = flask_scoped_session(session_factory)

_of_the_parent: list[Any] = []


def _leave_connections_to_parent() -> None:
    """Start a forked child with no connection.

    The parent's are kept, unused, until the child ends: closing one here would end the parent's too.
    """
    _of_the_parent.append((engine.pool, dict(session.registry.registry)))
    engine.dispose(close=False)
    session.registry.registry.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_connections_to_parent)
