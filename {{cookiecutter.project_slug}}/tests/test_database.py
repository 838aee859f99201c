"""Tests of the tests' own database: whatever a test did, the next one starts from the migrated, empty schema."""

from sqlalchemy import create_engine, inspect, select, text
from sqlalchemy.orm import Session, scoped_session

from app.db import engine, session_factory
from tests import DATABASE
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


def test_ids_start_at_one(things: None, session: scoped_session[Session]) -> None:
    assert Thing(name="first").save().id == 1
