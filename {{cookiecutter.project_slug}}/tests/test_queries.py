"""Tests of `count_queries`: it fails a test that sends more statements than it says."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session

from tests.queries import statements
from tests.things import Thing

pytestmark = pytest.mark.usefixtures("things")
CountQueries = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def three_things(things: None, session: scoped_session[Session]) -> None:
    """Things whose parts are loaded when they are asked for."""
    for name in ("box", "bag", "jar"):
        Thing(name=name).save()
    session.commit()


@pytest.mark.usefixtures("three_things")
def test_a_query_for_each_row_is_shown(session: scoped_session[Session], count_queries: CountQueries) -> None:
    def show() -> None:
        with count_queries(2):
            for thing in session.scalars(select(Thing)).all():
                assert thing.parts == []

    with pytest.raises(pytest.fail.Exception, match=r"4 statements were sent, and 2 are allowed:\n1\. SELECT things"):
        show()


@pytest.mark.usefixtures("three_things")
def test_what_is_allowed_passes(session: scoped_session[Session], count_queries: CountQueries) -> None:
    with count_queries(2):
        session.scalars(select(Thing)).all()
        Thing(name="cup").save()  # in a savepoint, which does not count


def test_what_was_arranged_before_does_not_count(session: scoped_session[Session], count_queries: CountQueries) -> None:
    session.add(Thing(name="box"))
    with count_queries(1):
        assert len(session.scalars(select(Thing)).all()) == 1


def test_nothing_is_noted_after_the_block(session: scoped_session[Session]) -> None:
    with statements() as sent:
        pass
    session.scalars(select(Thing)).all()

    assert sent == []


def test_an_error_in_the_block_comes_through(count_queries: CountQueries) -> None:
    with pytest.raises(LookupError), count_queries(0):
        raise LookupError
