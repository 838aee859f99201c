"""What the drivers of the servers do in vain, and what they do not tell: edit only for another driver."""

import select
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from sqlalchemy import Engine, PoolProxiedConnection, event
from sqlalchemy.exc import ResourceClosedError

BUSY = 0.5
"""Seconds for which a connection that was given back, and whose socket is silent, is taken for one that is still there."""

COMMITTED = SimpleNamespace(unbuffered_active=False, has_next=False, insert_id=0)
"""What PyMySQL finds in the place of the last result if that was a COMMIT; whatever it sends takes this away."""


def ask_if_idle(engine: Engine, socket_of: Callable[[Any], Any]) -> None:
    """Ask whether a connection is still there, a round trip, only if it was idle, or if its socket has something to read.

    A server that ends a connection says so at its socket; firewalls and the like, which drop what is idle, say nothing.
    """
    ping = engine.dialect.do_ping

    def is_there(connection: Any) -> bool:
        # Not the monotonic clock: it stands still while a machine sleeps.
        if 0 <= time.time() - getattr(connection, "last_used", 0) < BUSY and _is_silent(socket_of(connection)):
            return True
        try:
            return ping(connection)
        except engine.dialect.loaded_dbapi.Error:  # whatever it says: psycopg's may be about what the ping has left
            return False

    def note_use(connection: Any, _record: object) -> None:
        if connection is not None:
            connection.last_used = time.time()

    event.listen(engine, "checkin", note_use)
    setattr(engine.dialect, "do_ping", is_there)  # noqa: B010 (a method)


def _is_silent(source: Any) -> bool:
    """Return whether a socket is open, and has nothing to read; False where the system cannot tell."""
    if source is None or not hasattr(select, "poll"):
        return False
    poller = select.poll()
    poller.register(source, select.POLLIN)
    return not poller.poll(0)


def end_once(engine: Engine) -> None:
    """Let the pool send no ROLLBACK for a connection that has sent nothing since its COMMIT: with PyMySQL, a round trip.

    One that has died meanwhile is told by the ROLLBACK.
    """

    def commit(connection: PoolProxiedConnection) -> None:
        driver: Any = connection.dbapi_connection
        cut_off(driver)
        driver.commit()
        driver._result = COMMITTED

    def roll_back(connection: PoolProxiedConnection) -> None:
        driver: Any = connection.dbapi_connection
        if driver._result is not COMMITTED or not _is_silent(driver._sock):
            cut_off(driver)
            driver.rollback()

    setattr(engine.dialect, "do_commit", commit)  # noqa: B010 (methods)
    setattr(engine.dialect, "do_rollback", roll_back)  # noqa: B010


def share_certificates(engine: Engine) -> None:
    """Read the certificates of the system once for all connections that check none: PyMySQL takes 25 ms for each."""
    driver: Any = engine.dialect.loaded_dbapi
    contexts: list[Any] = []

    class Connection(driver.connections.Connection):  # type: ignore[misc] # the driver has no types
        def _create_ssl_ctx(self, options: Any) -> Any:
            if options:
                return super()._create_ssl_ctx(options)
            if not contexts:
                contexts.append(super()._create_ssl_ctx(options))
            return contexts[0]

    setattr(engine.dialect, "connect", Connection)  # noqa: B010 (a method)


def cut_off(driver: Any) -> None:
    """Let a result that the server still sends (`yield_per`) fail when it is read on after something else was sent.

    Else PyMySQL drops the rest, and says that it was the end.
    """
    unread = driver._result
    if unread is not None and unread.unbuffered_active:
        unread._finish_unbuffered_query()
        unread._read_rowdata_packet_unbuffered = _refuse_to_read


def _refuse_to_read() -> None:
    """Raise in the place of the rows that were dropped."""
    raise ResourceClosedError("The connection was used for something else before this result was read to its end.")
