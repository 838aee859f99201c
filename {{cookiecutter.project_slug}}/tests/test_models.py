"""Tests of `Base`: what `save`, `update` and `delete` do."""

import pytest
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, scoped_session
from sqlalchemy.orm.exc import StaleDataError

from app.db import session_factory
from app.models import OutdatedError
from tests.things import Page, Part, Thing, checked_at_commit, saved

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


@checked_at_commit
def test_what_the_database_checks_at_the_end_fails_the_commit(session: scoped_session[Session]) -> None:
    Part(thing_id=99).save()

    with pytest.raises(IntegrityError):
        session.commit()


@checked_at_commit
def test_a_commit_that_failed_leaves_nothing_for_the_next_one(session: scoped_session[Session]) -> None:
    Part(thing_id=99).save()
    with pytest.raises(IntegrityError):
        session.commit()
    session.remove()

    Thing(name="next").save()
    session.commit()

    assert saved() == ["next"]


def test_constraints_have_names() -> None:
    assert {constraint.name for constraint in Thing.__table__.constraints} == {"pk_things", "uq_things_name"}  # type: ignore[attr-defined] # typed as a FromClause


def test_a_versioned_model_refuses_a_change_of_what_has_been_changed(session: scoped_session[Session]) -> None:
    page = Page(text="one").save()
    session.commit()
    assert page.version == 1
    with session_factory() as other:
        other.get_one(Page, page.id).text = "two"
        other.commit()

    with pytest.raises((StaleDataError, OperationalError)):  # SQLite refuses the stale writer itself
        page.update(text="three")
    session.rollback()

    assert page.update(text="four").version == 3


def test_a_versioned_model_refuses_a_change_of_what_the_client_has_not_seen() -> None:
    page = Page(text="one").save().update(text="two", version=1)
    assert page.version == 2

    with pytest.raises(OutdatedError, match="has version 2, and the change was made to version 1"):
        page.update(text="three", version=1)

    assert (page.text, page.version) == ("two", 2)
    assert page.update(text="three", version="2").version == 3  # as a form sends it
