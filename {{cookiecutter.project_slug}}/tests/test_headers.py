"""Tests of app/headers.py."""

import pytest
from flask import Flask, Response, request, session
from flask.testing import FlaskClient

from app import create_app
from app.headers import HEADERS


@pytest.mark.parametrize("path", ["/", "/healthz", "/nowhere"])
def test_every_answer_has_the_headers(client: FlaskClient, path: str) -> None:
    headers = client.get(path, buffered=True).headers

    assert {name: headers.get(name) for name in HEADERS} == HEADERS
    assert "Strict-Transport-Security" not in headers


def test_browsers_keep_the_files_of_the_app_and_nothing_else(client: FlaskClient) -> None:
    headers = client.get("/static/style.css", buffered=True).headers

    assert {name: headers.get(name) for name in HEADERS} == HEADERS | {"Cache-Control": "no-cache"}
    assert headers["ETag"]


def test_an_answer_to_an_unexpected_error_has_them_too(app: Flask) -> None:
    app.add_url_rule("/broken", view_func=lambda: str(1 / 0))
    app.testing = False

    answer = app.test_client().get("/broken")

    assert answer.status_code == 500
    assert HEADERS.items() <= dict(answer.headers).items()


@pytest.mark.parametrize("name", ["X-Frame-Options", "x-frame-options"])
def test_a_view_may_set_its_own(app: Flask, client: FlaskClient, name: str) -> None:
    app.add_url_rule("/framed", view_func=lambda: Response("", headers={name: "SAMEORIGIN"}))

    assert client.get("/framed").headers.getlist("X-Frame-Options") == ["SAMEORIGIN"]


def test_over_https_browsers_are_told_to_stay_there(client: FlaskClient) -> None:
    headers = client.get("/", base_url="https://localhost").headers

    assert headers["Strict-Transport-Security"] == "max-age=63072000; includeSubDomains"


def test_the_cookie_of_the_session_is_kept_from_scripts_and_from_http(app: Flask, client: FlaskClient) -> None:
    def view() -> str:
        session["name"] = "Ada"
        return ""

    app.add_url_rule("/login", view_func=view)

    _, *attributes = client.get("/login").headers["Set-Cookie"].split("; ")

    assert set(attributes) == {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"}


def test_in_debug_mode_the_cookie_goes_over_http_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_DEBUG", "1")

    assert create_app({"TESTING": True}).config["SESSION_COOKIE_SECURE"] is False


@pytest.mark.parametrize(
    ("proxies", "scheme", "address"), [("0", "http", "127.0.0.1"), ("1", "https", "2.2.2.2"), ("2", "http", "1.1.1.1")]
)
def test_only_proxies_that_are_trusted_are_believed(
    monkeypatch: pytest.MonkeyPatch, proxies: str, scheme: str, address: str
) -> None:
    monkeypatch.setenv("TRUSTED_PROXIES", proxies)
    app = create_app({"TESTING": True})
    seen: list[tuple[str, str | None, str]] = []

    @app.get("/seen")
    def view() -> str:
        seen.append((request.scheme, request.remote_addr, request.host))
        return ""

    told = {"X-Forwarded-For": "1.1.1.1, 2.2.2.2", "X-Forwarded-Proto": "http, https", "X-Forwarded-Host": "evil"}
    app.test_client().get("/seen", headers=told)

    assert seen == [(scheme, address, "localhost")]
