"""Tests of the fixtures that other tests use."""

from collections.abc import Callable
from urllib.error import HTTPError
from urllib.request import urlopen

import click
import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session, scoped_session

from app import create_app
from app.transactions import on_commit, transaction
from tests.conftest import Route
from tests.factories import factory
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")
Callbacks = list[Callable[[], None]]


def test_what_a_test_arranges_is_committed_by_its_request(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    def view() -> ResponseReturnValue:
        session.get_one(Thing, 1).update(size=5)
        return ",".join(saved())

    route(view)
    box = Thing(name="box").save()

    assert client.post("/").text == "box"
    assert box.size == 5


def test_what_a_test_arranges_is_committed_by_its_command(app: Flask, runner: FlaskCliRunner) -> None:
    app.cli.command("show")(lambda: click.echo(",".join(saved())))
    Thing(name="box").save()

    assert runner.invoke(args=["show"]).output == "box\n"


class OwnClient(FlaskClient):
    """A client as extensions bring it."""


def test_what_a_test_arranges_is_committed_for_another_app_too() -> None:
    other = create_app({"SECRET_KEY": "other"})
    other.test_client_class = OwnClient
    other.add_url_rule("/saved", view_func=lambda: ",".join(saved()))
    other.cli.command("show")(lambda: click.echo(",".join(saved())))

    Thing(name="box").save()
    assert other.test_client().get("/saved").text == "box"

    Thing(name="bag").save()
    assert other.test_cli_runner().invoke(args=["show"]).output == "box,bag\n"


def test_a_request_that_a_view_sends_commits_nothing_of_the_view(app: Flask, client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        app.test_client().get("/nowhere")
        return "", 400

    route(view)
    client.post("/")

    assert saved() == []


def test_a_view_that_forgets_to_commit_is_found_out(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        session.rollback()
        return ""

    route(view)
    client.post("/")

    assert saved() == []


def test_a_callback_waits_until_the_test_runs_it(client: FlaskClient, route: Route, callbacks: Callbacks) -> None:
    @transaction
    def welcome() -> None:
        Thing(name="welcome").save()

    def view() -> ResponseReturnValue:
        on_commit(welcome)
        Thing(name="box").save()
        return ""

    route(view)
    client.post("/")
    assert saved() == ["box"]

    callbacks.pop()()

    assert callbacks == []
    assert saved() == ["box", "welcome"]


def test_a_callback_that_the_test_runs_may_fail_it(session: scoped_session[Session], callbacks: Callbacks) -> None:
    def fail() -> None:
        raise LookupError

    Thing(name="box").save()
    on_commit(fail)
    assert callbacks == []
    session.commit()

    with pytest.raises(LookupError):
        callbacks[0]()


def test_a_live_server_answers_on_a_socket(app: Flask, live_server: str, session: scoped_session[Session]) -> None:
    Thing(name="box").save()
    session.commit()
    app.add_url_rule("/saved", view_func=lambda: ",".join(saved()))

    assert urlopen(f"{live_server}/saved").read() == b"box"
    with pytest.raises(HTTPError, match="404") as refused, urlopen(f"{live_server}/nowhere"):
        pass
    refused.value.close()


def test_a_factory_saves_rows_that_differ() -> None:
    new_thing = factory(Thing, name=lambda number: f"thing {number}", size=2)

    made = [new_thing(), new_thing(size=3), new_thing(name="box")]

    assert [(thing.name, thing.size) for thing in made] == [("thing 1", 2), ("thing 2", 3), ("box", 2)]
    assert [thing.id for thing in made] == [1, 2, 3]
