"""Tests of app/errors.py."""

import pytest
from flask import Flask, Response, abort, redirect, request, session
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from werkzeug.datastructures import WWWAuthenticate
from werkzeug.exceptions import BadRequest, HTTPException, Unauthorized

from tests.conftest import Route
from tests.problems import problem

BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"}


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "*/*",
        "application/json",
        "application/problem+json",
        "text/html;q=0.5, */*",
        "application/problem+json, text/html;q=0.9",
        "application/json, text/html;q=0.9",
    ],
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


def test_a_response_that_is_aborted_with_again_is_as_it_was(app: Flask, client: FlaskClient, route: Route) -> None:
    again = redirect("/elsewhere")
    streamed = []

    @app.after_request
    def note(response: Response) -> Response:
        streamed.append(response.is_streamed)
        return response

    def view() -> ResponseReturnValue:
        session["seen"] = True
        abort(again)

    route(view)

    assert "Set-Cookie" in client.get("/view").headers
    assert "Set-Cookie" not in again.headers
    assert streamed == [False]  # it would keep the session


def test_an_error_that_brings_its_response_is_answered_by_it(client: FlaskClient, route: Route) -> None:
    route(lambda: abort(404, response=Response("mine", 404)))

    assert client.get("/view").text == "mine"


def test_what_has_not_changed_is_no_error(client: FlaskClient, route: Route) -> None:
    class NotModified(HTTPException):
        """What the client has is still right."""

        code = 304

    def view() -> ResponseReturnValue:
        raise NotModified

    route(view)
    response = client.get("/view")

    assert (response.status_code, response.text) == (304, "")


def test_a_handler_of_the_app_comes_first(app: Flask, client: FlaskClient, route: Route) -> None:
    app.register_error_handler(404, lambda _: ("mine", 404))

    assert client.get("/nowhere").text == "mine"


def test_a_redirect_is_no_error(client: FlaskClient, route: Route) -> None:
    route(lambda: abort(redirect("/elsewhere")))

    assert client.get("/view").location == "/elsewhere"


def test_a_form_field_that_is_missing_is_named(client: FlaskClient, route: Route) -> None:
    route(lambda: request.form["title"])

    told = problem(client.post("/", data={}))

    assert (told["status"], told["errors"]) == (400, [{"field": "title", "message": "missing"}])
    assert "title" in told["detail"]
    assert "<li>title: missing</li>" in client.post("/", data={}, headers=BROWSER).text


def test_a_page_shows_the_name_of_a_field_as_text(client: FlaskClient, route: Route) -> None:
    route(lambda: request.form["<b>"])

    assert "<li>&lt;b&gt;: missing</li>" in client.post("/", data={}, headers=BROWSER).text


def test_a_page_needs_nothing_of_the_app_that_may_have_failed(app: Flask, client: FlaskClient) -> None:
    app.context_processor(lambda: abort(503))

    assert client.get("/nowhere", headers=BROWSER).status_code == 404


def test_the_words_of_the_app_stay(client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        raise BadRequest("Please give a title.") from BadRequest("a cause")

    route(view)

    assert problem(client.get("/view"))["detail"] == "Please give a title."


def test_what_is_wrong_with_the_json_is_said(client: FlaskClient, route: Route) -> None:
    route(lambda: request.get_json()["title"])

    told = problem(client.post("/", data='{"title": }', content_type="application/json"))

    assert told["status"] == 400
    assert "line 1 column 11" in told["detail"]


def test_a_body_that_is_cut_off_is_a_bad_request(client: FlaskClient, route: Route) -> None:
    route(lambda: request.get_data())

    told = problem(client.post("/", data="x", environ_overrides={"CONTENT_LENGTH": "2"}))

    assert told["detail"] == "The body is shorter than its Content-Length says."


def test_a_body_that_is_too_large_is_refused_with_the_limit(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 10
    route(lambda: request.get_data())

    told = problem(client.post("/", data="x" * 11))

    assert (told["status"], told["detail"]) == (413, "Send at most 10 bytes.")


def test_a_limit_of_another_kind_is_not_told_as_one_of_the_body(app: Flask, client: FlaskClient, route: Route) -> None:
    app.config["MAX_FORM_MEMORY_SIZE"] = 10
    route(lambda: request.form["title"])

    told = problem(client.post("/", data={"title": "x" * 100}, content_type="multipart/form-data"))

    assert told["status"] == 413
    assert "bytes" not in told["detail"]


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
