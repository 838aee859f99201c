"""Tests of app/errors.py."""

import logging
from typing import Any

import pytest
from flask import Flask, Response, abort, redirect, request
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy import text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session, scoped_session
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import Unauthorized
from werkzeug.test import TestResponse

from tests.conftest import Route
from tests.things import Part, Thing, saved

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


def problem(response: TestResponse) -> dict[str, Any]:
    """Return the problem that a response tells."""
    assert response.mimetype == "application/problem+json"
    assert response.vary.as_set() >= {"accept"}
    told: dict[str, Any] = response.get_json()
    assert {"type", "title", "status", "detail"} <= told.keys()
    assert (told["type"], told["status"]) == ("about:blank", response.status_code)
    return told


@pytest.mark.parametrize(
    "accept", [None, "*/*", "application/json", "application/problem+json", "text/html;q=0.5, */*"]
)
def test_a_program_gets_a_problem(client: FlaskClient, accept: str | None) -> None:
    told = problem(client.get("/nowhere", headers={"Accept": accept} if accept else {}))

    assert (told["status"], told["title"]) == (404, "Not Found")


@pytest.mark.parametrize("accept", [BROWSER["Accept"], "text/html", "text/*, application/json;q=0.9"])
def test_a_browser_gets_a_page(client: FlaskClient, accept: str) -> None:
    response = client.get("/nowhere", headers={"Accept": accept})

    assert (response.status_code, response.mimetype) == (404, "text/html")
    assert "<h1>Not Found</h1>" in response.text
    assert "accept" in response.vary
    assert "<script" not in response.text


def test_a_page_shows_what_it_is_told_as_text(client: FlaskClient, route: Route) -> None:
    route(lambda: abort(400, "<b>bold</b>"))

    assert "&lt;b&gt;bold" in client.get("/view", headers=BROWSER).text


def test_a_method_that_is_not_there_is_answered_with_those_that_are(client: FlaskClient, route: Route) -> None:
    route(lambda: "")

    response = client.delete("/view")

    assert problem(response)["detail"] == "Use GET, HEAD, OPTIONS."
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_the_headers_of_an_error_stay(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        raise Unauthorized("Log in.", www_authenticate=WWWAuthenticate("basic"))

    route(view)
    response = client.get("/view")

    assert problem(response)["detail"] == "Log in."
    assert response.headers["WWW-Authenticate"] == "Basic"


@pytest.mark.parametrize("status", [200, 303, 404])
def test_a_response_that_is_aborted_with_is_answered_as_it_is(client: FlaskClient, route: Route, status: int) -> None:
    route(lambda: abort(Response("mine", status)))

    response = client.get("/view")

    assert (response.status_code, response.text) == (status, "mine")


def test_a_redirect_is_no_error(client: FlaskClient, route: Route) -> None:
    route(lambda: abort(redirect("/elsewhere")))

    assert client.get("/view").location == "/elsewhere"


def test_a_form_field_that_is_missing_is_named(client: FlaskClient, route: Route) -> None:
    route(lambda: request.form["title"])

    told = problem(client.post("/", data={}))

    assert (told["status"], told["errors"]) == (400, [{"field": "title", "message": "missing"}])
    assert "title" in told["detail"]


def test_what_is_wrong_with_the_json_is_said(client: FlaskClient, route: Route) -> None:
    route(lambda: request.get_json()["title"])

    told = problem(client.post("/", data='{"title": }', content_type="application/json"))

    assert told["status"] == 400
    assert "line 1 column 11" in told["detail"]


def test_a_body_that_is_too_large_is_refused_with_the_limit(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    route(lambda: request.get_data())

    told = problem(client.post("/", data="x" * 11))

    assert (told["status"], told["detail"]) == (413, "Send at most 10 bytes.")


def test_an_unexpected_error_is_logged_and_tells_nothing(
    app: Flask, client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def view() -> ResponseReturnValue:
        raise ValueError("the secret")

    route(view)

    for response in (client.post("/"), client.post("/", headers=BROWSER)):
        assert response.status_code == 500
        assert "secret" not in response.text
    assert "the secret" in caplog.text


@pytest.mark.usefixtures("things")
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


@pytest.mark.usefixtures("things")
def test_an_error_of_the_commit_is_answered_like_one_of_the_view(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    def view() -> ResponseReturnValue:
        session.add_all([Thing(name="box"), Thing(name="box")])
        return "", 201

    route(view)

    assert problem(client.post("/"))["errors"] == [{"field": "name", "message": "already taken"}]
    assert saved() == []


@pytest.mark.usefixtures("things")
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

    with pytest.raises(OperationalError, match="nowhere"):
        client.get("/view")


def test_a_number_that_no_database_can_hold_is_not_found(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule("/row/<int:number>", view_func=lambda number: str(number), endpoint="show")
    app.add_url_rule("/row/<int:number>", view_func=lambda number: str(number), endpoint="delete", methods=["DELETE"])

    for found in ("0", "7", "9" * 18, "8" + "9" * 18):
        assert client.delete(f"/row/{found}").text == found
    for lost in ("9" * 19, "1" * 20, "9" * 5000, "-1", "1.5", "x", "٣"):
        assert client.get(f"/row/{lost}").status_code == 404
        assert client.delete(f"/row/{lost}").status_code == 404
