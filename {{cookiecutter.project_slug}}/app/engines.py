"""The engine of each kind of database, with the settings that this app relies on: edit only for another database."""

import sqlite3
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from flask.helpers import get_debug_flag
from sqlalchemy import (
    URL,
    Connection,
    Engine,
    ExceptionContext,
    ExecutionContext,
    PoolProxiedConnection,
    create_engine,
    event,
)
from sqlalchemy.orm import SessionTransaction
from sqlalchemy.pool import ConnectionPoolEntry

from app.config import choice, number
from app.drivers import ask_if_idle, cut_off, end_once, share_certificates

POOL_SIZE, MAX_OVERFLOW = 5, 10
"""The connections that a process keeps, and those that it opens in need."""

POOL: dict[str, Any] = {
    "pool_size": POOL_SIZE,
    "max_overflow": MAX_OVERFLOW,
    "pool_timeout": 5,  # seconds; then the client is told to try again
    "hide_parameters": not get_debug_flag(),  # what people have entered is not for the log
}


def make_engine(url: URL) -> Engine:
    """Return the engine for `url`, with the settings this app relies on.

    `info["transaction"]` of a connection is what is known of the transaction that it is in, and ends with it. `writes`: what it
    has written, with its savepoints; `failed` and `ended`: the error that has failed in it, and whether the database has
    ended it for that; `lost`: the error, if that was a conflict; `begin` and `sqlite`: how SQLite is to begin it, and the
    connection of the driver, which knows whether it is over.
    """
    engine = _make_sqlite_engine(url) if url.get_backend_name() == "sqlite" else _make_server_engine(url)

    def forget(connection: PoolProxiedConnection) -> None:
        connection.info["transaction"] = {}

    setattr(engine.dialect, "do_begin", forget)  # noqa: B010 (a method, which does nothing: drivers begin by themselves)
    before_transaction(engine, "do_begin_twophase", forget)
    return engine


def _make_server_engine(url: URL) -> Engine:
    """Return the engine for PostgreSQL, MySQL or MariaDB."""
    # A server that is away is an error after seconds, unless the URL says otherwise.
    connect: dict[str, Any] = {} if "connect_timeout" in url.query else {"connect_timeout": 3}
    options = {**POOL, "pool_pre_ping": True, "connect_args": connect}
    # DEFAULT: the lowest level at which no update is lost.
    level = choice("DATABASE_ISOLATION", "DEFAULT", "READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE")
    if url.get_backend_name() == "postgresql":
        isolation_level: Any = "REPEATABLE READ" if level == "DEFAULT" else level
        engine = create_engine(url, isolation_level=isolation_level, **options)
        ask_if_idle(engine, lambda driver: driver)
        return engine

    # The driver's time to connect ends before the server greets: for so long it waits for the greeting.
    greeting = {} if "read_timeout" in url.query else {"read_timeout": 3}
    mysql_engine = create_engine(url, **options | {"connect_args": connect | greeting})

    @event.listens_for(mysql_engine, "handle_error")
    def tell_never_connected_from_lost(context: ExceptionContext) -> None:
        if context.connection is None and not context.is_pre_ping:
            context.is_disconnect = False  # a server that says nothing is one for the driver

    ask_if_idle(mysql_engine, lambda driver: driver._sock)
    end_once(mysql_engine)
    share_certificates(mysql_engine)
    before_statements(mysql_engine, lambda cursor, *_: cut_off(cursor.connection))

    # Before the dialect's own listener, which reads the level as the default of the server.
    @event.listens_for(mysql_engine, "connect", insert=True)
    def set_variables(connection: Any, record: ConnectionPoolEntry) -> None:
        if greeting:
            connection._read_timeout = None  # a statement may take longer
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
            # MariaDB's REPEATABLE READ refuses to overwrite what it has not seen only with this; MySQL has no such thing.
            detects = cursor.execute("SHOW VARIABLES LIKE 'innodb_snapshot_isolation'")
            if detects:
                cursor.execute("SET innodb_snapshot_isolation = ON")
            # A lock timeout then ends more than its statement: the transaction.
            if cursor.execute("SHOW VARIABLES WHERE Variable_name = 'innodb_rollback_on_timeout' AND Value = 'ON'"):
                record.info["ends"] = 1205
            safe = "REPEATABLE READ" if detects else "SERIALIZABLE"
            cursor.execute(f"SET SESSION TRANSACTION ISOLATION LEVEL {safe if level == 'DEFAULT' else level}")

    return mysql_engine


def _make_sqlite_engine(url: URL) -> Engine:
    """Return the engine for a SQLite file."""
    sqlite_engine = create_engine(url, **POOL)
    synchronous = choice("SQLITE_SYNCHRONOUS", "FULL", "NORMAL", "OFF", "EXTRA")
    busy_timeout = number("SQLITE_BUSY_TIMEOUT", default=5000, unit="milliseconds")

    @event.listens_for(sqlite_engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _record: object) -> None:
        # First, because the change to WAL waits for a lock.
        connection.execute(f"PRAGMA busy_timeout = {busy_timeout}")
        # FULL: a commit survives a power cut. WAL: readers and the writer do not wait for each other.
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA foreign_keys = ON")

    def begin(cursor: sqlite3.Cursor, _statement: str, _parameters: Any, context: ExecutionContext) -> None:
        """Begin the transaction with its first statement.

        The driver begins one only before INSERT, UPDATE and DELETE: that leaves DDL and SAVEPOINT outside, and lets each
        SELECT of a transaction see another database.
        """
        if cursor.connection.in_transaction:
            return
        options = context.root_connection.get_execution_options()
        if options.get("isolation_level") != "AUTOCOMMIT":
            known = context.root_connection.info["transaction"]
            mode = options.get("sqlite_begin", known.get("begin", "DEFERRED"))
            cursor.execute(f"BEGIN {mode}")
            known["sqlite"] = cursor.connection  # it can tell whether the transaction has ended

    def commit_or_roll_back(connection: PoolProxiedConnection) -> None:
        """Roll back if the COMMIT fails: SQLite keeps the transaction and its lock, and SQLAlchemy takes it for ended."""
        driver_connection: Any = connection.dbapi_connection
        try:
            driver_connection.commit()
        except sqlite3.Error:
            driver_connection.rollback()
            raise

    before_statements(sqlite_engine, begin)
    setattr(sqlite_engine.dialect, "do_commit", commit_or_roll_back)  # noqa: B010 (a method)
    return sqlite_engine


def connections_of(transaction: SessionTransaction) -> set[Connection]:
    """Return what `transaction.connections` holds, by one call instead of seven: each request asks for it."""
    return set(map(itemgetter(0), transaction._connections.values()))


def before_statements(engine: Engine, function: Callable[..., None]) -> None:
    """Call `function(cursor, statement, parameters, context)` before each statement of an engine.

    These events are the dialect's. With a single event of the engine, each connection pays 40 us for its own dispatcher.
    """
    for name in ("do_execute", "do_executemany"):
        event.listen(engine, name, function)
    event.listen(
        engine, "do_execute_no_params", lambda cursor, statement, context: function(cursor, statement, None, context)
    )


def before_transaction(engine: Engine, name: str, function: Callable[[Any], None]) -> None:
    """Call `function(connection)` before a method of the dialect, such as `do_commit`, for the same reason."""
    method = getattr(engine.dialect, name)

    def call_then(connection: Any, *more: Any) -> None:
        function(connection)
        method(connection, *more)

    setattr(engine.dialect, name, call_then)
