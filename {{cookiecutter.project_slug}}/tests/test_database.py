"""Tests of the tests' own database: whatever a test did, the next one starts from the migrated, empty schema."""

import sqlite3

import pytest
from sqlalchemy import insert, inspect, select, text
from sqlalchemy.orm import Session, scoped_session

from app.db import engine, session_factory
from tests import database
from tests.things import Thing


def test_committed_rows_and_new_tables_are_gone_after_a_restore(things: None, image: bytes) -> None:
    with session_factory.begin() as other:
        other.add(Thing(name="left"))

    database.restore(image)

    assert not inspect(engine).has_table("things")


def test_dropped_tables_are_back_after_a_restore(image: bytes) -> None:
    tables = inspect(engine).get_table_names()
    with engine.begin() as connection:
        for table in tables:
            connection.execute(text(f"DROP TABLE {table}"))

    database.restore(image)

    assert inspect(engine).get_table_names() == tables


def test_a_restore_does_not_wait_for_an_open_writer(things: None, image: bytes) -> None:
    writer = sqlite3.connect(database.FILE, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("INSERT INTO things (name, size) VALUES ('late', 0)")

    database.restore(image)

    Thing.metadata.create_all(engine)
    writer.execute("COMMIT")
    writer.close()
    with session_factory() as other:
        assert other.scalars(select(Thing.name)).all() == []


def test_ids_start_at_one(things: None, session: scoped_session[Session]) -> None:
    assert Thing(name="first").save().id == 1


def test_a_connection_that_is_left_open_is_counted(things: None) -> None:
    with engine.connect() as connection:
        connection.execute(insert(Thing).values(name="open", size=0))
        assert database.open_connections() == 1

    assert database.open_connections() == 0


def test_another_database_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "FILE", database.FILE.with_name("another.sqlite3"))

    with pytest.raises(RuntimeError, match=r"The tests run on .*another\.sqlite3 only"):
        database.build()
