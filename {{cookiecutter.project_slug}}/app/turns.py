"""The attempts of a request, and how one that has lost a conflict gets its turn: edit only for another database."""

import random
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from weakref import ref

from sqlalchemy import Connection, PoolProxiedConnection, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction

from app.bodies import RecordedBody
from app.contexts import request_context
from app.db import engine, session, session_factory
from app.engines import before_transaction

_TABLE = re.compile(r"\b(?:UPDATE|INTO|FROM)\s+(?:ONLY\s+)?([\w.\"`]+)", re.IGNORECASE)


@dataclass(slots=True)
class Attempt:
    """One run of a request: how often it may run, and what it did that forbids another."""

    number: int
    limit: int
    deadline: float
    body: RecordedBody | None
    follows: BaseException | None = None
    """The conflict that the one before has lost."""
    others: int = 0
    """The transactions that were begun in it, and in those before it, and are not of its own session."""
    lost_in: dict[str, Any] | None = None
    """What is known of the transaction in which it has lost a conflict, perhaps one that the app has swallowed."""
    committed: bool = False
    around: "Attempt | None" = None
    """That of the request whose view, or body, has sent this one."""

    def may_be_repeated(self) -> bool:
        """Return whether the next run would do the same work, and no part of it twice."""
        in_time = self.number < self.limit and time.monotonic() < self.deadline
        return in_time and not self.committed and (self.body is None or self.body.complete)


def current_attempt() -> Attempt | None:
    """Return the run of the current request; None outside requests, and for one that was not sent through WSGI."""
    context = request_context()
    return None if context is None else context.request.environ.get("app.attempt")


def pause(attempt: int) -> None:
    """Wait before the next attempt, for a random time: those who collided shall not meet again."""
    time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311 (no secret)


def lock_first(connection: Connection, lost: BaseException | None) -> None:
    """Lock what a transaction has lost, before it reads: others would come first each time, and one could lose for ever.

    PostgreSQL takes its snapshot with the first query, and LOCK TABLE is none (its manual, LOCK): the others wait, those who
    only read do not. MySQL and MariaDB take it with the first read that does not lock, so the rows alone are locked.
    What cannot be locked is not: it is about fairness alone.
    """
    if not isinstance(lost, DBAPIError) or not (table := _TABLE.search(statement := lost.statement or "")):
        return
    with suppress(DBAPIError), connection.begin_nested():
        if connection.dialect.name == "postgresql":
            # Nobody waits for long, should the view wait for something else.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '20s'")
            connection.exec_driver_sql(f"LOCK TABLE {table[1]} IN EXCLUSIVE MODE")
        elif connection.dialect.name in ("mysql", "mariadb"):
            condition = statement.partition(" WHERE ")[2]
            if condition and isinstance(lost.params, dict):
                connection.exec_driver_sql(f"SELECT 1 FROM {table[1]} WHERE {condition} FOR UPDATE", lost.params)  # noqa: S608


def _count_transaction(_connection: PoolProxiedConnection) -> None:
    """Count the transactions that a repeated request begins; `_take_turn` takes off those of its own session."""
    if (attempt := current_attempt()) and attempt.number > 1:
        attempt.others += 1


if engine.name != "sqlite":  # where a repeated request begins IMMEDIATE
    before_transaction(engine, "do_begin", _count_transaction)

    @event.listens_for(session_factory, "after_begin")
    def _take_turn(begun: Session, transaction: SessionTransaction, connection: Connection) -> None:
        """Lock at once, from the third attempt of a request on, what it has lost before.

        Not in a request that also uses other connections: they would wait for its lock.
        """
        attempt = current_attempt()
        if attempt is None or attempt.number == 1 or transaction.nested:
            return
        if session.sessions.get(ref(request_context())) is begun:
            attempt.others -= 1
            if attempt.number > 2 and not attempt.others:
                lock_first(connection, attempt.follows)
