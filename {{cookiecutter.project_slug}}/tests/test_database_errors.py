"""Tests of app/database_errors.py, with errors that a database raises."""

import logging
from collections.abc import Callable
from typing import Any, Literal

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy import CheckConstraint, UniqueConstraint, create_engine, text
from sqlalchemy.exc import IntegrityError, InternalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session

from app.database_errors import as_http_error
from app.db import engine
from app.transactions import set_rollback
from tests.conftest import Route
from tests.problems import problem
from tests.things import Part, TestBase, Thing, checked_at_commit, saved, sqlite_only


class Place(TestBase):
    """A place that one thing can take."""

    __tablename__ = "places"
    __table_args__ = (UniqueConstraint("row", "shelf"), CheckConstraint("shelf > 0", name="shelf"))

    id: Mapped[int] = mapped_column(primary_key=True)
    row: Mapped[int]
    shelf: Mapped[int]
    side: Mapped[Literal["left", "right"]] = mapped_column(default="left")


pytestmark = pytest.mark.usefixtures("things")


def error_of(action: Callable[[], object]) -> Exception:
    """Return what an action raises."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 (any)
        action()
    return raised.value


@pytest.fixture
def taken(things: None) -> None:
    """A thing and a place that are there already."""
    Thing(name="box").save()
    Place(row=1, shelf=2).save()


@pytest.mark.usefixtures("taken")
@pytest.mark.parametrize(
    ("table", "values", "fields"),
    [
        ("things", {"name": "box"}, ["name"]),
        # MySQL and MariaDB call the key of any table PRIMARY.
        ("things", {"id": 1, "name": "bag"}, [] if engine.name in ("mysql", "mariadb") else ["id"]),
        ("places", {"row": 1, "shelf": 2}, ["row", "shelf"]),
    ],
)
def test_values_that_are_taken_are_a_conflict_that_names_them(
    table: str, values: dict[str, object], fields: list[str]
) -> None:
    model = {"things": Thing, "places": Place}[table]

    told = as_http_error(error_of(lambda: model(**values).save()))

    assert told is not None
    assert told.code == 409
    assert [error["field"] for error in vars(told)["errors"]] == fields


@checked_at_commit
def test_a_reference_to_nothing_is_a_conflict(session: scoped_session[Session]) -> None:
    Part(thing_id=99).save()

    told = as_http_error(error_of(session.commit))

    assert told is not None
    assert told.code == 409


@pytest.mark.parametrize("wrong", [{"shelf": 0}, {"side": "up"}])
def test_a_value_that_is_not_allowed_is_unprocessable(wrong: dict[str, Any]) -> None:
    told = as_http_error(error_of(lambda: Place(**{"row": 1, "shelf": 1} | wrong).save()))

    assert told is not None
    assert told.code == 422


@sqlite_only
def test_a_database_that_is_busy_asks_to_try_again(session: scoped_session[Session]) -> None:
    with engine.connect() as writer, engine.connect() as waiting:
        waiting.exec_driver_sql("PRAGMA busy_timeout = 1")
        waiting.rollback()
        writer.exec_driver_sql("DELETE FROM things")

        told = as_http_error(
            error_of(lambda: waiting.execution_options(sqlite_begin="IMMEDIATE").exec_driver_sql("SELECT 1"))
        )
        waiting.invalidate()

    assert told is not None
    assert told.code == 503
    assert told.get_response().headers["Retry-After"] == "1"


def test_a_database_that_cannot_be_reached_asks_to_try_again_later() -> None:
    told = as_http_error(error_of(create_engine("sqlite:////nowhere/at/all").connect))

    assert told is not None
    assert told.code == 503
    assert int(told.get_response().headers["Retry-After"]) > 1


def test_a_pool_without_a_free_connection_asks_to_try_again() -> None:
    small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01)
    with small.connect():
        error = error_of(small.connect)
    small.dispose()

    told = as_http_error(error)

    assert isinstance(error, PoolTimeoutError)
    assert told is not None
    assert told.code == 503


@pytest.mark.parametrize("statement", ["SELECT * FROM nowhere", "INSERT INTO things (size) VALUES (1)", "SELEC"])
def test_a_mistake_of_the_app_is_left_to_the_log(session: scoped_session[Session], statement: str) -> None:
    assert as_http_error(error_of(lambda: session.execute(text(statement)))) is None


def test_a_mistake_that_the_commit_finds_is_left_to_the_log() -> None:
    assert as_http_error(InternalError(None, None, Exception())) is None


def test_an_error_that_is_not_of_the_database_is_left_alone() -> None:
    assert as_http_error(ValueError("of the app")) is None


def test_a_value_that_is_taken_is_a_conflict(
    client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        return "", 201

    route(view)

    assert client.post("/").status_code == 201
    assert problem(client.post("/"))["errors"] == [{"field": "name", "message": "already taken"}]
    assert saved() == ["box"]
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_an_error_of_the_commit_is_answered_like_one_of_the_view(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    def view() -> ResponseReturnValue:
        session.add_all([Thing(name="box"), Thing(name="box")])
        return "", 201

    route(view)

    assert problem(client.post("/"))["errors"] == [{"field": "name", "message": "already taken"}]
    assert saved() == []


def test_a_reference_to_nothing_is_a_conflict_when_it_is_committed(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        Part(thing_id=99).save()
        return "", 201

    route(view)

    assert problem(client.post("/"))["status"] == 409


def test_a_mistake_of_the_app_stays_an_error(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    route(lambda: str(session.execute(text("SELECT * FROM nowhere"))))

    with pytest.raises(SQLAlchemyError, match="nowhere"):
        client.get("/view")


@pytest.mark.parametrize("handled", [409, Exception, SQLAlchemyError, IntegrityError])
def test_a_handler_of_the_app_comes_first(
    app: Flask, client: FlaskClient, route: Route, handled: type[Exception] | int
) -> None:
    app.register_error_handler(handled, lambda _: ("mine", 400))

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        Thing(name="box").save()
        return ""

    route(view)

    assert client.post("/").text == "mine"


def test_an_error_that_the_app_does_not_handle_is_rolled_back_always(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        set_rollback(False)
        Thing(name="box").save()
        return ""

    route(view)

    assert client.post("/").status_code == 409
    assert saved() == []


def test_a_pool_without_a_free_connection_is_answered_and_logged(
    client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    small = create_engine(engine.url, pool_size=1, max_overflow=0, pool_timeout=0.01)

    def view() -> ResponseReturnValue:
        with small.connect(), small.connect():
            return ""

    route(view)
    response = client.post("/")
    small.dispose()

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert [record.levelname for record in caplog.records] == ["ERROR"]
