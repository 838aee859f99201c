"""Tests of what is left when `save`, `update` or `delete` fails."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from tests.queries import statements
from tests.things import Thing, saved, sqlite_only

pytestmark = pytest.mark.usefixtures("things")


def test_a_failed_save_keeps_what_was_saved_before(session: scoped_session[Session]) -> None:
    Thing(name="box").save()

    with pytest.raises(IntegrityError):
        Thing(name="box").save()
    Thing(name="bag").save()

    session.commit()
    assert saved() == ["box", "bag"]


def test_a_failed_update_takes_only_its_own_object_back(session: scoped_session[Session]) -> None:
    Thing(name="box").save()
    bag = Thing(name="bag").save()
    bag.name = "box"  # a bad value that is set before the savepoint

    with pytest.raises(IntegrityError):
        bag.update(size=7)

    session.commit()
    assert saved() == ["box", "bag"]
    assert (bag.name, bag.size) == ("bag", 0)


@sqlite_only
def test_a_failed_delete_keeps_the_object(session: scoped_session[Session]) -> None:
    session.connection().exec_driver_sql(
        "CREATE TRIGGER no BEFORE DELETE ON things BEGIN SELECT RAISE(ABORT, 'no'); END"
    )
    box = Thing(name="box").save()

    with pytest.raises(IntegrityError):
        box.delete()

    assert box.update(size=3) in session
    session.commit()
    assert saved() == ["box"]


def test_a_failed_save_keeps_changes_of_others_that_are_not_saved_yet(session: scoped_session[Session]) -> None:
    box = Thing(name="box").save()
    session.add(Thing(name="bag"))
    box.size = 9

    with pytest.raises(IntegrityError):
        Thing(name="box").save()

    session.commit()
    assert saved() == ["box", "bag"]
    assert box.size == 9


def test_a_failed_save_drops_what_is_at_fault_itself(
    session: scoped_session[Session], caplog: pytest.LogCaptureFixture
) -> None:
    Thing(name="box").save()
    session.add(Thing(name="box"))

    with pytest.raises(IntegrityError):
        Thing(name="bag").save()

    assert "dropped the changes of Thing" in caplog.text
    session.commit()
    assert saved() == ["box"]


def test_the_first_statement_needs_no_savepoint_and_a_later_one_does(session: scoped_session[Session]) -> None:
    with statements() as sent:
        Thing(name="box").save()
        session.rollback()
        session.add(Thing(name="bin"))  # which begins, and sends nothing
        Thing(name="box").save()
    assert "SAVEPOINT" not in [statement.split()[0] for statement in sent]
    session.commit()

    with statements() as sent:
        session.scalars(select(Thing)).all()
        Thing(name="bag").save()
    assert [statement.split()[0] for statement in sent] == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]


@sqlite_only
def test_a_transaction_that_the_database_has_ended_cannot_be_committed(session: scoped_session[Session]) -> None:
    session.connection().exec_driver_sql(
        "CREATE TRIGGER ends BEFORE INSERT ON things WHEN NEW.name = 'bad' BEGIN SELECT RAISE(ROLLBACK, 'ended'); END"
    )
    session.commit()
    Thing(name="box").save()

    with pytest.raises(IntegrityError, match="ended"):
        Thing(name="bad").save()
    Thing(name="more").save()

    with pytest.raises(IntegrityError, match="ended"):
        session.commit()
    session.rollback()
    assert saved() == []
