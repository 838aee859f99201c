"""How those who have lost a conflict get their turn: edit only for another database."""

import random
import re
import time
from contextlib import suppress

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

_TABLE = re.compile(r"\b(?:UPDATE|INTO|FROM)\s+(?:ONLY\s+)?([\w.\"`]+)", re.IGNORECASE)


def pause(attempt: int) -> None:
    """Wait before the next attempt, for a random time: those who collided shall not meet again."""
    time.sleep(random.uniform(0, min(0.01 * 2**attempt, 0.5)))  # noqa: S311 (no secret)


def lock_first(connection: Connection, lost: BaseException | None) -> None:
    """Lock what a transaction has lost, before it reads: others would come first each time, and one could lose for ever.

    PostgreSQL takes its snapshot with the first query, and LOCK TABLE is none (its manual, LOCK): the others wait, those who
    only read do not. MySQL and MariaDB take it with the first read that does not lock, so the rows alone are locked.
    What cannot be locked is not: it is about fairness alone.
    """
    statement = lost.statement if isinstance(lost, DBAPIError) else None
    table = _TABLE.search(statement or "")
    if table is None or not isinstance(lost, DBAPIError):
        return
    with suppress(DBAPIError), connection.begin_nested():
        if connection.dialect.name == "postgresql":
            # Nobody waits for long, should the view wait for something else.
            connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = '20s'")
            connection.exec_driver_sql(f"LOCK TABLE {table[1]} IN EXCLUSIVE MODE")
        elif connection.dialect.name in ("mysql", "mariadb"):
            condition = (statement or "").partition(" WHERE ")[2]
            if condition and isinstance(lost.params, dict):
                connection.exec_driver_sql(f"SELECT 1 FROM {table[1]} WHERE {condition} FOR UPDATE", lost.params)  # noqa: S608
