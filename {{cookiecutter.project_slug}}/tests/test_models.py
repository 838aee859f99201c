"""Tests of `Base`: what `save`, `update` and `delete` do."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session

from tests.things import Part, Thing, saved

pytestmark = pytest.mark.usefixtures("things")


def test_save_writes_and_does_not_commit(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()

    assert thing.id == 1
    assert saved() == []
    session.commit()
    assert saved() == ["box"]


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
