"""What a conflict is on each database, and the repetition of the request that lost one: edit only for another database."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

from flask import Flask
from sqlalchemy import Connection, ExceptionContext, PoolProxiedConnection, event
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm.exc import StaleDataError

from app.bodies import RecordedBody
from app.contexts import before_exceptions
from app.db import engine, session
from app.logs import reason
from app.turns import Attempt, current_attempt, pause

# Serialization failure and deadlock in PostgreSQL (its appendix A); a row that another transaction has changed, lock
# timeout and deadlock in MySQL and MariaDB. SQLite has names: https://www.sqlite.org/rescode.html#busy.
CONFLICTS = {"40001", "40P01", 1020, 1205, 1213}
ENDED = {1020, 1206, 1213}
"""What ends the transaction on MySQL and MariaDB, which take what follows for a new one; 1205 where the server says so."""

PATIENCE = 20.0
"""How long a request may go on and still be repeated, in seconds: each attempt may have waited for a lock."""


def database_code(error: DBAPIError) -> object:
    """Return the code that the database gave to an error: its name in SQLite, its number in MySQL, its SQLSTATE."""
    first = next(iter(error.orig.args), None) if error.orig is not None else None
    if isinstance(first, int):
        return first
    return getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)


def is_conflict(error: BaseException) -> bool:
    """Return whether an error says that another transaction came first: the same work may succeed if it is repeated.

    A connection that died at COMMIT is none: nobody knows what happened.
    """
    if isinstance(error, BaseExceptionGroup):  # of the tasks of an async view
        return any(map(is_conflict, error.exceptions))
    if not isinstance(error, DBAPIError):
        return type(error) is StaleDataError  # not its kinds: what the client has not seen stays unseen
    code = database_code(error)
    busy = isinstance(code, str) and code.startswith("SQLITE_BUSY")
    return (busy or code in CONFLICTS) and not error.connection_invalidated


def follows_conflict(error: BaseException, lost_in: dict[str, Any] | None) -> bool:
    """Return whether an error may come from a conflict which the app has swallowed: `lost_in` is what has noted it."""
    swallowed = lost_in is not None and "lost" in lost_in and isinstance(error, SQLAlchemyError)
    return swallowed and not getattr(error, "connection_invalidated", False)


class Repeat(BaseException):
    """The request begins again; no handler of the app's own is to take this."""


def init_app(app: Flask) -> None:
    """Repeat the requests of `app` that lose a conflict, before any error handler sees it."""
    app.config.setdefault("TRANSACTION_ATTEMPTS", 10)
    app.config.setdefault("TRANSACTION_MAX_BODY", 1_000_000)
    before_exceptions(app, _repeat_if_lost)
    wsgi_app: Callable[..., Iterable[bytes]] = app.wsgi_app

    def run(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        body = None
        if environ.get("CONTENT_LENGTH") or environ.get("wsgi.input_terminated") or "HTTP_TRANSFER_ENCODING" in environ:
            body = environ["wsgi.input"] = RecordedBody(environ["wsgi.input"], app.config["TRANSACTION_MAX_BODY"])
        untouched = environ.copy()  # before the app adds to it
        limit, deadline, around = app.config["TRANSACTION_ATTEMPTS"], time.monotonic() + PATIENCE, current_attempt()
        attempt = Attempt(1, limit, deadline, body, around=around)
        while True:
            environ["app.attempt"] = attempt
            try:
                return wsgi_app(environ, start_response)
            except Repeat as lost:
                attempt = _prepare_next(app, untouched, attempt, lost.__cause__)
                environ = untouched.copy()

    setattr(app, "wsgi_app", run)  # noqa: B010 (a method)


def _prepare_next(app: Flask, environ: dict[str, Any], attempt: Attempt, lost: BaseException | None) -> Attempt:
    """Wait, and return the next run of a request that has lost a conflict."""
    told = (environ["REQUEST_METHOD"], environ.get("PATH_INFO", ""), attempt.number, reason(lost))
    app.logger.info("%s %s: attempt %s lost a conflict: %s", *told)
    pause(attempt.number)
    if attempt.body is not None:
        attempt.body.rewind()
    return replace(attempt, number=attempt.number + 1, follows=lost, lost_in=None)


def _repeat_if_lost(error: Exception) -> None:
    """Begin the request again if an error comes from a conflict, or follows one that the app has swallowed."""
    attempt = current_attempt()
    if attempt is None or not attempt.may_be_repeated():
        return
    if is_conflict(error) or follows_conflict(error, attempt.lost_in):
        raise Repeat from error


@event.listens_for(engine, "handle_error")
def _note_error(context: ExceptionContext) -> None:
    """Note what has failed in a transaction, for its COMMIT, and a conflict also for its request and its session."""
    error, connection = context.sqlalchemy_exception, context.connection
    if connection is None or connection.invalidated or not isinstance(error, DBAPIError):
        return
    known = connection.info.setdefault("transaction", {})  # it may fail before its first
    if not known.get("ended"):
        gone = "sqlite" in known and not known["sqlite"].in_transaction  # a full disk, a trigger that says so
        known |= {"failed": error, "ended": gone or database_code(error) in (*ENDED, connection.info.get("ends", ""))}
    if is_conflict(error):
        known["lost"] = error
        if attempt := current_attempt():
            attempt.lost_in = known
        if (current := session.existing()) and "block" in current.info:
            current.info["block"] = known


def _commit(connection: PoolProxiedConnection) -> None:
    """Commit a transaction; raise what has ended it, if the app went on after that: the database would not say so.

    PostgreSQL answers the COMMIT of a failed transaction with a ROLLBACK; SQLite and MariaDB commit what came after it.

    :raises sqlalchemy.exc.SQLAlchemyError: the error that has ended the transaction.
    """
    known, pgconn = connection.info["transaction"], getattr(connection.dbapi_connection, "pgconn", None)
    aborted = pgconn is not None and pgconn.transaction_status == 3  # PQTRANS_INERROR
    if known.get("ended") or aborted:
        connection.rollback()  # SQLAlchemy takes the transaction for ended
        raise known.get("failed") or PendingRollbackError("What the driver was told directly has failed.")
    _commit_by_driver(connection)


def _forget_conflict(connection: Connection, name: str) -> None:
    """Roll back to a savepoint, if it has not ended with the transaction; what has failed in it is settled."""
    if not connection.info["transaction"].get("ended"):
        _roll_back_to_savepoint(connection, name)
        for settled in ("lost", "failed"):
            connection.info["transaction"].pop(settled, None)


def _release(connection: Connection, name: str) -> None:
    """Release a savepoint, if it has not ended with the transaction, whose COMMIT is then refused."""
    if not connection.info["transaction"].get("ended"):
        _release_savepoint(connection, name)


_commit_by_driver = engine.dialect.do_commit
_roll_back_to_savepoint = engine.dialect.do_rollback_to_savepoint
_release_savepoint = engine.dialect.do_release_savepoint
setattr(engine.dialect, "do_commit", _commit)  # noqa: B010 (methods)
setattr(engine.dialect, "do_rollback_to_savepoint", _forget_conflict)  # noqa: B010
setattr(engine.dialect, "do_release_savepoint", _release)  # noqa: B010
