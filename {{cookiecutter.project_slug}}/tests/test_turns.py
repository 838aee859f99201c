"""Tests of the turn of those who have lost a conflict: on SQLite the lock of a repeated attempt is BEGIN IMMEDIATE."""

import pytest
from sqlalchemy.exc import OperationalError

from app.db import engine
from app.turns import lock_first
from tests.things import sqlite_only


@sqlite_only
@pytest.mark.usefixtures("things")
def test_nothing_is_locked_on_sqlite() -> None:
    with engine.connect() as connection, engine.connect() as other:
        lock_first(connection, OperationalError("UPDATE things SET name = ?", ("x",), Exception()))
        other.exec_driver_sql("UPDATE things SET name = 'x'")
