"""Tests of app/logs.py."""

import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest
from flask import Flask, Response
from sqlalchemy import text

from app import create_app
from app.db import session
from app.logs import JSONFormatter

ID = {"X-Request-ID": "abc-1"}


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Flask:
    """An app as it is served, which logs its requests."""
    caplog.set_level(logging.INFO, "app.requests")
    app = create_app({"SECRET_KEY": "only for tests"})

    @app.get("/named/<name>")
    def view(name: str) -> str:
        session.execute(text("SELECT 1"))
        session.execute(text("SELECT 2"))
        return name

    return app


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged of requests."""
    return [record.getMessage() for record in caplog.records if record.name == "app.requests"]


def test_a_request_is_a_line_without_its_query(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    served.test_client().get("/named/Zo%C3%AB?password=secret").close()

    (line,) = lines(caplog)
    assert re.fullmatch(r"GET /named/Zoë 200 in [\d.]+ ms, 2 statements in [\d.]+ ms", line)


def test_an_error_is_a_line_too(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    served.add_url_rule("/broken", view_func=lambda: str(1 / 0))

    served.test_client().get("/broken").close()
    served.test_client().post("/nowhere").close()

    first, second = lines(caplog)
    assert first.startswith("GET /broken 500 in ")
    assert second.startswith("POST /nowhere 404 in ")


def test_a_streamed_body_is_a_part_of_its_request(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    @served.get("/streamed")
    def stream() -> Iterator[str]:
        def pieces() -> Iterator[str]:
            yield str(session.scalar(text("SELECT 1")))
            yield str(session.scalar(text("SELECT 2")))

        return pieces()

    answer = served.test_client().get("/streamed")
    assert answer.text == "12"
    answer.close()

    (line,) = lines(caplog)
    assert ", 2 statements in " in line


def test_each_request_has_an_id_of_its_own(served: Flask) -> None:
    client = served.test_client()

    ids = {client.get("/named/x", headers=ID).headers["X-Request-ID"] for _ in range(3)}

    assert len(ids) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in ids)


@pytest.mark.parametrize(("given", "kept"), [("abc-1", True), ("a b", False), ("x" * 101, False), ("", False)])
def test_a_trusted_proxy_gives_the_id(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, given: str, kept: bool
) -> None:
    caplog.set_level(logging.INFO, "app.requests")
    monkeypatch.setenv("TRUSTED_PROXIES", "1")
    client = create_app({"TESTING": True}).test_client()

    answer = client.get("/healthz", headers={"X-Request-ID": given}, buffered=True)

    assert (answer.headers["X-Request-ID"] == given) is kept


def test_requests_are_not_logged_unless_it_is_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    answer = create_app({"SECRET_KEY": "only for tests"}).test_client().get("/healthz")

    assert lines(caplog) == []
    assert "X-Request-ID" not in answer.headers


def record(message: str, *args: object, error: bool = False) -> logging.LogRecord:
    """Return a record as the app would log it."""
    return logging.LogRecord("app", logging.ERROR, "", 0, message, args, sys.exc_info() if error else None)


def test_a_record_is_a_line_of_json_without_passwords() -> None:
    url = "postgresql://ada:p@ss:w/rd@host/name"
    try:
        raise RuntimeError(f"cannot reach\n{url}")
    except RuntimeError:
        line = JSONFormatter().format(record("no %s", url, error=True))

    told = json.loads(line)
    assert "\n" not in line
    assert told["message"] == "no postgresql://ada:***@host/name"
    assert (told["level"], told["logger"]) == ("ERROR", "app")
    assert "RuntimeError: cannot reach" in told["exception"]
    assert "w/rd" not in line


def test_the_lines_of_a_request_have_its_id(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    seen: list[str] = []

    @served.get("/logged")
    def log() -> str:
        seen.append(json.loads(JSONFormatter().format(record("within")))["request_id"])
        return ""

    answer = served.test_client().get("/logged")

    assert seen == [answer.headers["X-Request-ID"]]


def test_a_body_that_breaks_is_logged_with_its_error(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    @served.get("/broken")
    def stream() -> Iterator[str]:
        def pieces() -> Iterator[str]:
            yield "a"
            raise LookupError("no more")

        return pieces()

    with pytest.raises(LookupError):
        served.test_client().get("/broken", buffered=True)

    cut_off, line = [record for record in caplog.records if record.name == "app.requests"]
    assert cut_off.exc_info
    assert line.getMessage().startswith("GET /broken 200 in ")


def test_a_body_that_cannot_be_closed_is_logged(served: Flask, caplog: pytest.LogCaptureFixture) -> None:
    @served.get("/broken")
    def break_at_close() -> Response:
        response = Response("")
        response.call_on_close(lambda: 1 / 0)
        return response

    with pytest.raises(ZeroDivisionError):
        served.test_client().get("/broken", buffered=True)

    assert len(lines(caplog)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "null value\nDETAIL:  Failing row contains (1, private,\nprivate).\n[SQL: INSERT]",
        "(1062, \"Duplicate entry 'private' for key 'email'\")",
        "postgresql://ada@host/name?sslmode=require&password=private",
    ],
)
def test_what_people_have_entered_is_not_logged(text: str) -> None:
    told = json.loads(JSONFormatter().format(record(text)))["message"]

    assert "private" not in told
    assert told.endswith(("[SQL: INSERT]", "for key 'email'\")", "password=***"))
