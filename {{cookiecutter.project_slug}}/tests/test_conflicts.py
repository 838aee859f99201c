"""Tests of the repetition of requests: no update is lost, and nothing is done twice."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import OperationalError

from app.conflicts import is_conflict
from app.db import session, session_factory
from app.transactions import attempts
from tests.conftest import Route
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")


class BusyError(Exception):
    """What SQLite's driver raises when another has the lock for too long."""

    sqlite_errorname = "SQLITE_BUSY"


def conflict() -> OperationalError:
    """Return an error that comes from a conflict."""
    return OperationalError(None, None, BusyError())


def size() -> int:
    """Return the committed size of the thing."""
    with session_factory() as other:
        return other.get_one(Thing, 1).size


def test_no_update_is_lost(app: Flask, route: Route) -> None:
    def view() -> ResponseReturnValue:
        thing = session.get_one(Thing, 1)
        thing.update(size=thing.size + 1)
        return ""

    def count(_: int) -> list[int]:
        client = app.test_client()
        return [client.post("/").status_code for _ in range(5)]

    route(view)
    Thing(name="counter").save()
    session.commit()

    with ThreadPoolExecutor(4) as threads:
        answers = [status for statuses in threads.map(count, range(4)) for status in statuses]

    assert answers == [200] * 20
    assert size() == 20


def test_a_request_that_lost_is_repeated_with_the_same_body(client: FlaskClient, route: Route) -> None:
    bodies = []

    def view() -> ResponseReturnValue:
        bodies.append(request.get_json())
        Thing(name=f"run {len(bodies)}").save()
        if len(bodies) == 1:
            raise conflict()
        return ""

    route(view)

    assert client.post("/", json={"a": 1}).status_code == 200
    assert bodies == [{"a": 1}, {"a": 1}]
    assert saved() == ["run 2"]


def test_a_reader_that_writes_is_repeated_with_the_lock(client: FlaskClient, route: Route) -> None:
    runs = []

    def view() -> ResponseReturnValue:
        runs.append(1)
        thing = session.get_one(Thing, 1)
        if len(runs) == 1:
            with session_factory() as other:
                other.get_one(Thing, 1).size = 10
                other.commit()
        thing.update(size=thing.size + 1)
        return ""

    route(view)
    Thing(name="counter").save()

    assert client.get("/view").status_code == 200
    assert size() == 11


def test_the_client_hears_503_after_the_last_attempt(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["TRANSACTION_ATTEMPTS"] = 3
    runs = []

    def view() -> ResponseReturnValue:
        runs.append(1)
        raise conflict()

    route(view)
    answer = client.post("/")

    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert len(runs) == 3


@pytest.mark.parametrize(("patience", "limit"), [(0, 10), (20, 1)], ids=["it takes long", "its view forbids it"])
def test_a_request_is_not_repeated_when(
    client: FlaskClient, route: Route, monkeypatch: pytest.MonkeyPatch, patience: int, limit: int
) -> None:
    monkeypatch.setattr("app.conflicts.PATIENCE", patience)
    runs = []

    @attempts(limit)
    def view() -> ResponseReturnValue:
        runs.append(1)
        raise conflict()

    route(view)

    assert client.post("/").status_code == 503
    assert len(runs) == 1


def test_a_request_that_committed_is_not_repeated(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        session.commit()
        raise conflict()

    route(view)

    assert client.post("/").status_code == 503
    assert saved() == ["box"]


def test_a_large_body_is_not_repeated(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["TRANSACTION_MAX_BODY"] = 10
    runs = []

    def view() -> ResponseReturnValue:
        runs.append(request.get_data())
        raise conflict()

    route(view)

    assert client.post("/", data=b"x" * 11).status_code == 503
    assert len(runs) == 1


def test_a_connection_that_is_gone_is_no_conflict() -> None:
    assert is_conflict(conflict())
    assert not is_conflict(OperationalError(None, None, BusyError(), connection_invalidated=True))
