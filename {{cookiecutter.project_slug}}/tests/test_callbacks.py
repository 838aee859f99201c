"""Tests of `on_commit`: after the commit, and only then."""

import pytest
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue

from app.db import session
from app.transactions import on_commit, transaction
from tests.conftest import Route
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")


def test_a_callback_runs_after_the_commit(client: FlaskClient, route: Route) -> None:
    called: list[object] = []

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        on_commit(lambda: called.append(saved()))
        called.append("view")
        return ""

    route(view)
    client.post("/")

    assert called == ["view", ["box"]]


def test_a_callback_is_forgotten_with_the_transaction(client: FlaskClient, route: Route) -> None:
    called: list[object] = []

    def view() -> ResponseReturnValue:
        on_commit(lambda: called.append(1))
        return "", 400

    route(view)
    client.post("/")

    assert called == []


def test_a_callback_is_forgotten_with_its_savepoint(client: FlaskClient, route: Route) -> None:
    called: list[object] = []

    def fail() -> None:
        with transaction():
            Thing(name="box").save()
            on_commit(lambda: called.append("box"))
            raise LookupError

    def view() -> ResponseReturnValue:
        with pytest.raises(LookupError):
            fail()
        with transaction():
            on_commit(lambda: called.append("kept"))
        return ""

    route(view)
    client.post("/")

    assert called == ["kept"]


def test_a_callback_that_fails_is_logged_and_the_others_run(
    client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    called: list[object] = []

    def view() -> ResponseReturnValue:
        on_commit(lambda: 1 / 0)
        on_commit(lambda: called.append(1))
        return ""

    route(view)

    assert client.post("/").status_code == 200
    assert called == [1]
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_writes_in_a_transaction_of_its_own(client: FlaskClient, route: Route) -> None:
    @transaction
    def write() -> None:
        Thing(name="callback").save()

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        on_commit(write)
        return ""

    route(view)
    client.post("/")

    assert saved() == ["box", "callback"]


def test_without_a_transaction_it_runs_at_once() -> None:
    called: list[object] = []
    on_commit(lambda: called.append(1))
    assert called == [1]

    Thing(name="box").save()
    on_commit(lambda: called.append(2))
    assert called == [1]
    session.commit()
    assert called == [1, 2]

    on_commit(lambda: called.append(3))
    assert called == [1, 2, 3]
