"""Tests of app/database_errors.py, with errors that a database raises."""

from collections.abc import Callable

import pytest
from sqlalchemy import CheckConstraint, UniqueConstraint, create_engine, text
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session

from app.database_errors import http_error
from app.db import engine
from tests.things import Part, TestBase, Thing


class Place(TestBase):
    """A place that one thing can take."""

    __tablename__ = "places"
    __table_args__ = (UniqueConstraint("row", "shelf"), CheckConstraint("shelf > 0", name="shelf"))

    id: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[int]
    shelf: Mapped[int]


pytestmark = pytest.mark.usefixtures("things")


def error_of(action: Callable[[], object]) -> Exception:
    """Return what an action raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (any)
        action()
    return raised.value


@pytest.fixture
def taken(things: None) -> None:
    """A thing and a place that are there already."""
    Thing(id=1, name="box").save()
    Place(id=1, row=1, shelf=2).save()


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize(
    ("table", "values", "fields"),
    [
        ("things", {"name": "box"}, ["name"]),
        ("things", {"id": 1, "name": "bag"}, ["id"]),
        ("places", {"row": 1, "shelf": 2}, ["row", "shelf"]),
    ],
)
def test_values_that_are_taken_are_a_conflict_that_names_them(
    table: str, values: dict[str, object], fields: list[str]
) -> None:
    model = {"things": Thing, "places": Place}[table]

    told = http_error(error_of(lambda: model(**values).save()))

    assert told is not None
    assert told.code == 409
    assert [error["field"] for error in vars(told)["errors"]] == fields


def test_a_reference_to_nothing_is_a_conflict(session: scoped_session[Session]) -> None:
    Part(thing_id=99).save()

    told = http_error(error_of(session.commit))

    assert told is not None
    assert told.code == 409


def test_a_value_that_a_check_refuses_is_unprocessable() -> None:
    told = http_error(error_of(lambda: Place(row=1, shelf=0).save()))

    assert told is not None
    assert told.code == 422


def test_a_database_that_is_busy_asks_to_try_again(session: scoped_session[Session]) -> None:
    with engine.connect() as writer, engine.connect() as waiting:
        waiting.exec_driver_sql("PRAGMA busy_timeout = 1")
        waiting.rollback()
        writer.exec_driver_sql("DELETE FROM things")

        told = http_error(error_of(lambda: waiting.execution_options(sqlite_begin="IMMEDIATE").begin()))
        waiting.invalidate()

    assert told is not None
    assert told.code == 503
    assert told.get_response().headers["Retry-After"] == "1"


def test_a_database_that_cannot_be_reached_asks_to_try_again_later() -> None:
    told = http_error(error_of(create_engine("sqlite:////nowhere/at/all").connect))

    assert told is not None
    assert told.code == 503
    assert int(told.get_response().headers["Retry-After"]) > 1


def test_a_pool_without_a_free_connection_asks_to_try_again() -> None:
    small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with small.connect():
        error = error_of(small.connect)
    small.dispose()

    told = http_error(error)

    assert isinstance(error, PoolTimeoutError)
    assert told is not None
    assert told.code == 503


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "INSERT INTO things (size) VALUES (1)", "SELEC"])
def test_a_mistake_of_the_app_is_left_to_the_log(session: scoped_session[Session], statement: str) -> None:
    assert http_error(error_of(lambda: session.execute(text(statement)))) is None


def test_an_error_that_is_not_of_the_database_is_left_alone() -> None:
    assert http_error(ValueError("of the app")) is None
