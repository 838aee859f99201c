"""Tests of the transaction of a request: which response commits, and which rolls back."""

import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, Response, abort, flash, redirect
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy import event, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, scoped_session

from app.conflicts import is_conflict
from app.db import current_session, session_factory
from app.transactions import set_rollback
from tests.conftest import Route
from tests.things import Part, Thing, checked_at_commit, saved, sqlite_only

pytestmark = pytest.mark.usefixtures("things")


@pytest.mark.parametrize("status", [200, 201, 204, 303, 399])
def test_a_status_below_400_commits(client: FlaskClient, route: Route, status: int) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        return "", status

    route(view)

    assert client.post("/").status_code == status
    assert saved() == ["box"]


@pytest.mark.parametrize("status", [400, 404, 409, 500, 503])
def test_a_status_of_400_or_more_rolls_back(client: FlaskClient, route: Route, status: int) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        return "", status

    route(view)

    assert client.post("/").status_code == status
    assert saved() == []


@pytest.mark.parametrize(
    "write",
    [
        lambda: current_session.add(Thing(name="box")),
        lambda: current_session.execute(insert(Thing).values(name="box", size=1)),
        lambda: current_session.execute(text("INSERT INTO things (name, size) VALUES ('box', 1)")),
        lambda: current_session.bulk_insert_mappings(Thing.__mapper__, [{"name": "box"}]),
    ],
    ids=["unit of work", "core", "text", "bulk"],
)
def test_every_way_to_write_is_committed(client: FlaskClient, route: Route, write: Callable[[], Any]) -> None:
    def view() -> ResponseReturnValue:
        write()
        return ""

    route(view)
    client.post("/")

    assert saved() == ["box"]


def test_an_aborted_redirect_commits(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        abort(redirect("/"))

    route(view)

    assert client.post("/").location == "/"
    assert saved() == ["box"]


def test_an_exception_that_the_app_turns_into_a_success_commits(app: Flask, client: FlaskClient, route: Route) -> None:
    app.register_error_handler(LookupError, lambda _: "never mind")

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        raise LookupError

    route(view)

    assert client.post("/").status_code == 200
    assert saved() == ["box"]


def test_an_exception_that_only_the_500_handler_answers_never_commits(
    app: Flask, client: FlaskClient, route: Route
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.register_error_handler(500, lambda _: ("all is well", 200))

    def view() -> ResponseReturnValue:
        set_rollback(False)
        Thing(name="box").save()
        raise LookupError

    route(view)

    assert client.post("/").text == "all is well"
    assert saved() == []


def test_what_after_request_functions_write_is_committed(app: Flask, client: FlaskClient, route: Route) -> None:
    @app.after_request
    def audit(response: Response) -> Response:
        Thing(name="audit").save()
        return response

    route(lambda: "")
    client.post("/")

    assert saved() == ["audit"]


def test_a_failing_after_request_function_rolls_back(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.after_request
    def fail(_response: Response) -> Response:
        raise LookupError

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        return ""

    route(view)

    assert client.post("/").status_code == 500
    assert saved() == []


@checked_at_commit
def test_a_commit_that_fails_is_answered_by_the_apps_own_handler(app: Flask, client: FlaskClient, route: Route) -> None:
    app.register_error_handler(IntegrityError, lambda _: ("conflict", 409))
    answers: list[int] = []

    @app.after_request
    def note(response: Response) -> Response:
        answers.append(response.status_code)
        return response

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        Part(thing_id=99).save()
        flash("Saved!")
        response = redirect("/")
        response.set_cookie("saved", "yes")
        return response

    route(view)
    response = client.post("/")

    assert (response.status_code, response.text) == (409, "conflict")
    assert not {"Location", "Set-Cookie"} & {*response.headers.keys()}
    assert answers[1:] == [409]
    assert saved() == []


@pytest.mark.parametrize("handled", [RuntimeError, 500])
def test_a_commit_that_fails_is_never_answered_with_success(
    app: Flask, client: FlaskClient, route: Route, handled: type[Exception] | int
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.register_error_handler(handled, lambda _: redirect("/"))

    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        event.listen(current_session(), "before_commit", fail)
        return redirect("/")

    def fail(_session: Session) -> None:
        raise RuntimeError

    route(view)
    response = client.post("/")

    assert response.status_code == 500
    assert response.location is None


def test_set_rollback_outweighs_the_status(app: Flask, client: FlaskClient) -> None:
    @app.post("/<name>/<int:rollback>/<int:status>")
    def view(name: str, rollback: int, status: int) -> ResponseReturnValue:
        Thing(name=name).save()
        set_rollback(bool(rollback))
        return "", status

    client.post("/undone/1/200")
    client.post("/kept/0/400")

    assert saved() == ["kept"]


def test_set_rollback_outside_a_request_says_where_it_works() -> None:
    with pytest.raises(RuntimeError, match="while a request is handled"):
        set_rollback(True)


def test_each_decision_is_logged(client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)

    def view() -> ResponseReturnValue:
        Thing(name=f"box {len(saved())}").save()
        return "", 404 if len(saved()) else 200

    route(view)
    client.post("/")
    client.get("/view")

    assert [record.message for record in caplog.records if record.name == "app"] == [
        "commit",
        "rollback because of status 404",
    ]


def test_a_request_that_touches_no_database_opens_no_session(app: Flask, client: FlaskClient, route: Route) -> None:
    found: list[bool] = []

    @app.teardown_request
    def look(_error: BaseException | None) -> None:
        found.append(current_session.registry.has())

    route(lambda: "")
    client.post("/")

    assert found == [False]


@sqlite_only
def test_a_writer_makes_the_next_writer_wait(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        current_session.scalars(select(Thing)).all()
        with session_factory() as other:
            other.execute(text("PRAGMA busy_timeout = 0"))
            with pytest.raises(OperationalError, match="locked"):
                other.execute(insert(Thing).values(name="second", size=1))
        return ""

    route(view)

    assert client.post("/").status_code == 200


def test_a_reader_does_not_hold_the_write_lock(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        current_session.scalars(select(Thing)).all()
        with session_factory.begin() as other:
            other.add(Thing(name="meanwhile"))
        return ""

    route(view)

    assert client.get("/view").status_code == 200
    assert saved() == ["meanwhile"]


def test_a_stale_writer_is_refused(session: scoped_session[Session]) -> None:
    thing = Thing(name="box").save()
    session.commit()
    assert thing.size == 0

    with session_factory.begin() as other:
        other.execute(text("UPDATE things SET size = size + 1"))

    with pytest.raises(OperationalError) as refused:
        thing.update(size=thing.size + 1)
    assert is_conflict(refused.value)


def test_no_increment_is_lost(app: Flask) -> None:
    @app.post("/add")
    def add() -> ResponseReturnValue:
        thing = current_session.get_one(Thing, 1)
        thing.update(size=thing.size + 1)
        return ""

    with session_factory.begin() as other:
        other.add(Thing(name="counter"))
    statuses: list[int] = []

    def post() -> None:
        statuses.extend(app.test_client().post("/add").status_code for _ in range(10))

    threads = [threading.Thread(target=post) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    with session_factory() as other:
        assert (other.get_one(Thing, 1).size, statuses) == (40, [200] * 40)
