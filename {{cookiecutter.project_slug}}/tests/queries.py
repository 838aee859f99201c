"""What is sent to the database while a block runs: for tests that say how many statements that may be."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event

from app.db import engine, session

SAVEPOINTS = ("SAVEPOINT", "RELEASE SAVEPOINT", "ROLLBACK TO SAVEPOINT")


@contextmanager
def statements() -> Iterator[list[str]]:
    """Note the statements that are sent, on whatever connection of the app's engine."""
    sent: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


@contextmanager
def at_most(limit: int) -> Iterator[None]:
    """Fail the test if the block sends more than `limit` statements, and show them.

    Savepoints do not count, nor does what the test has arranged before.
    """
    if (arranged := session.existing()) is not None:
        arranged.flush()
    with statements() as sent:
        yield
    queries = [statement for statement in sent if not statement.startswith(SAVEPOINTS)]
    if len(queries) > limit:
        shown = "".join(f"\n{number}. {' '.join(query.split())}" for number, query in enumerate(queries, 1))
        pytest.fail(f"{len(queries)} statements were sent, and {limit} are allowed:{shown}", pytrace=False)
