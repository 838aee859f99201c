"""Tests of `Base`: what `save`, `update` and `delete` do, and what is left when they fail."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import event, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from app.db import engine, session_factory
from tests.things import Part, Thing

pytestmark = pytest.mark.usefixtures("things")


def names_committed() -> list[str]:
    """Return the names that another connection sees."""
    with session_factory() as other:
        return list(other.scalars(select(Thing.name).order_by(Thing.id)))


@contextmanager
def statements() -> Iterator[list[str]]:
    """Collect the statements that are sent to the database."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(engine, "before_cursor_execute", note)


def test_save_writes_and_does_not_commit(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()

    assert thing.id == 1
    assert names_committed() == []
    session.commit()
    assert names_committed() == ["box"]


def test_update_sets_saves_and_returns_the_object() -> None:
    thing = Thing(name="box").save()

    assert thing.update(name="bag", size=2) is thing
    assert (thing.name, thing.size) == ("bag", 2)


def test_delete_removes_the_row(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()

    thing.delete()

    assert session.scalars(select(Thing)).all() == []


def test_update_with_an_unknown_name_changes_nothing(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()

    with pytest.raises(TypeError, match="Thing has no attribute 'nmae'"):
        thing.update(size=5, nmae="bag")

    assert thing.size == 0
    assert not session.dirty


def test_a_failed_save_keeps_what_was_saved_before(session: scoped_session[Session]) -> None:
    Thing(name="box").save()

    with pytest.raises(IntegrityError):
        Thing(name="box").save()
    Thing(name="bag").save()

    session.commit()
    assert names_committed() == ["box", "bag"]


def test_a_failed_update_takes_only_its_own_object_back(session: scoped_session[Session]) -> None:
    Thing(name="box").save()
    bag = Thing(name="bag").save()
    bag.name = "box"  # a bad value that is set before the savepoint

    with pytest.raises(IntegrityError):
        bag.update(size=7)

    session.commit()
    assert names_committed() == ["box", "bag"]
    assert (bag.name, bag.size) == ("bag", 0)


def test_a_failed_delete_keeps_the_object(session: scoped_session[Session]) -> None:
    session.connection().exec_driver_sql(
        "CREATE TRIGGER no BEFORE DELETE ON things BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    box = Thing(name="box").save()

    with pytest.raises(IntegrityError):
        box.delete()

    assert box.update(size=3) in session
    session.commit()
    assert names_committed() == ["box"]


def test_a_failed_save_keeps_changes_of_others_that_are_not_saved_yet(session: scoped_session[Session]) -> None:
    box = Thing(name="box").save()
    session.add(Thing(name="bag"))
    box.size = 9

    with pytest.raises(IntegrityError):
        Thing(name="box").save()

    session.commit()
    assert names_committed() == ["box", "bag"]
    assert box.size == 9


def test_a_failed_save_drops_what_is_at_fault_itself(session: scoped_session[Session]) -> None:
    Thing(name="box").save()
    session.add(Thing(name="box"))

    with pytest.raises(IntegrityError):
        Thing(name="bag").save()

    session.commit()
    assert names_committed() == ["box"]


def test_the_first_statement_needs_no_savepoint_and_a_later_one_does(session: scoped_session[Session]) -> None:
    with statements() as sent:
        Thing(name="box").save()
    assert [statement.split()[0] for statement in sent] == ["BEGIN", "INSERT"]
    session.commit()

    with statements() as sent:
        session.scalars(select(Thing)).all()
        Thing(name="bag").save()
    assert [statement.split()[0] for statement in sent] == ["BEGIN", "SELECT", "SAVEPOINT", "INSERT", "RELEASE"]


def test_a_transaction_that_the_database_has_ended_cannot_be_committed(session: scoped_session[Session]) -> None:
    session.connection().exec_driver_sql(
        "CREATE TRIGGER ends BEFORE INSERT ON things WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'ended'); END"
    )
    session.commit()
    Thing(name="box").save()

    with pytest.raises(IntegrityError, match="ended"):
        Thing(name="bad").save()

    with pytest.raises(Exception, match="rollback"):
        session.commit()
    session.rollback()
    assert names_committed() == []


def test_query_is_that_of_the_current_session(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()

    assert Thing.query.filter_by(name="box").one() is thing
    assert thing in session


def test_what_the_database_checks_at_the_end_fails_the_commit(session: scoped_session[Session]) -> None:
    Part(thing_id=99).save()

    with pytest.raises(IntegrityError):
        session.commit()


def test_constraints_have_names() -> None:
    assert {constraint.name for constraint in Thing.__table__.constraints} == {"pk_things", "uq_things_name"}  # type: ignore[attr-defined] # typed as a FromClause
