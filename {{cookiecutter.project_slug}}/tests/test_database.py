"""Tests of the tests' own database: whatever a test did, the next one starts from the migrated, empty schema."""

import pytest
from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.orm import Session, scoped_session

from app.db import engine, session_factory
from tests import DATABASE
from tests.database import STATE, matches
from tests.things import Thing


def test_committed_rows_and_new_tables_are_gone_after_a_restore(things: None) -> None:
    with session_factory.begin() as other:
        other.add(Thing(name="left"))

    DATABASE.restore()

    assert not inspect(engine).has_table("things")


def test_dropped_tables_are_back_after_a_restore() -> None:
    tables = inspect(engine).get_table_names()
    with engine.begin() as connection:
        for table in tables:
            connection.execute(text(f"DROP TABLE {table}"))

    DATABASE.restore()

    assert inspect(engine).get_table_names() == tables


def test_a_restore_does_not_wait_for_an_open_writer(things: None) -> None:
    own = create_engine(engine.url)
    with own.connect() as writer:
        writer.execute(text("INSERT INTO things (name, size) VALUES ('late', 0)"))

        assert DATABASE.restore()

        Thing.metadata.create_all(engine)
        with session_factory() as other:
            assert other.scalars(select(Thing.name)).all() == []
        writer.invalidate()
    own.dispose()


def test_a_connection_of_the_driver_that_a_test_had_is_not_used_again() -> None:
    raw = engine.raw_connection()
    had = [raw.driver_connection]
    raw.close()
    with engine.begin() as connection:
        connection.execute(text("SELECT 1"))
        had.append(connection.connection.driver_connection)

    DATABASE.restore()

    with engine.connect() as connection:
        assert connection.connection.driver_connection not in had


@pytest.mark.parametrize(
    "statement",
    [
        "SET work_mem = '5MB'",
        "SELECT 1; SET work_mem = '5MB'",
        "-- all\n/* of */ PRAGMA foreign_keys = OFF",
        "/*!40014 SET foreign_key_checks = 0 */",
        "DO $$ BEGIN SET work_mem = '5MB'; END $$",
        "DECLARE words CURSOR WITH HOLD FOR SELECT 1",
        "SELECT pg_try_advisory_lock(1)",
        "SELECT 5 INTO @x",
        "SELECT @x := 5",
        "FLUSH TABLES WITH READ LOCK",
        "BACKUP STAGE START",
        "HANDLER things OPEN",
        "LOCK TABLE things READ",
        "CREATE OR REPLACE TEMPORARY TABLE more (id INTEGER)",
    ],
)
def test_a_statement_that_a_connection_remembers_is_noted(statement: str) -> None:
    assert matches(STATE, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT settings.name FROM settings",
        "UPDATE things SET size = 1",
        "INSERT INTO things (name) VALUES ('box') ON CONFLICT DO NOTHING",
        "LOCK TABLE things IN EXCLUSIVE MODE",
    ],
)
def test_other_statements_let_the_connection_be_used_again(statement: str) -> None:
    assert not matches(STATE, statement)


def test_ids_start_at_one(things: None, session: scoped_session[Session]) -> None:
    assert Thing(name="first").save().id == 1
