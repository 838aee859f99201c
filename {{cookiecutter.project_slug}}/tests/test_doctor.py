"""Tests of app/doctor.py: each check finds what is bad, and is silent where nothing is."""

from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskCliRunner
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, scoped_session

from app import doctor
from app.db import engine
from tests.database import has_migrations

GOOD = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def durable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settings that an app is served with: the tests themselves need not survive a power cut."""
    monkeypatch.delenv("SQLITE_SYNCHRONOUS", raising=False)


def finding(app: Flask, what: str) -> tuple[str, str]:
    """Return what `flask doctor` finds of one thing."""
    return doctor.examine(app, what)


def test_a_good_environment_has_no_problem(app: Flask, runner: FlaskCliRunner) -> None:
    app.secret_key = GOOD

    result = runner.invoke(args=["doctor"])

    assert "problem" not in result.output
    assert "ok           SECRET_KEY    has 64 characters" in result.output
    assert result.exit_code == 0


def test_a_problem_is_told_with_its_cure_and_ends_with_1(app: Flask, runner: FlaskCliRunner) -> None:
    app.secret_key = None

    result = runner.invoke(args=["doctor"])

    assert "problem      SECRET_KEY    is not set: write what `python -c" in result.output
    assert result.exit_code == 1


@pytest.mark.parametrize("secret", ["short", "x" * 64, "changeme" * 8])
def test_a_secret_that_can_be_guessed_is_found(app: Flask, secret: str) -> None:
    app.secret_key = secret

    level, told = finding(app, "SECRET_KEY")

    assert level == "problem"
    assert secret not in told


def test_debug_mode_is_found(app: Flask) -> None:
    assert finding(app, "FLASK_DEBUG")[0] == "ok"

    app.debug = True

    assert finding(app, "FLASK_DEBUG")[0] == "problem"
    assert finding(app, "cookies")[0] == "not checked"


def test_cookies_that_travel_by_http_are_found(app: Flask) -> None:
    assert finding(app, "cookies")[0] == "ok"

    app.config["SESSION_COOKIE_SECURE"] = False

    assert finding(app, "cookies") == ("problem", "SESSION_COOKIE_SECURE is off: remove the setting")


def test_settings_that_lose_data_are_found(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding(app, "durability")[0] == "ok"

    monkeypatch.setenv("SQLITE_SYNCHRONOUS", "off")
    monkeypatch.setenv("DATABASE_ISOLATION", "read committed")

    assert finding(app, "durability")[0] == "problem"


def test_whether_there_is_a_proxy_cannot_be_known(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    assert finding(app, "proxies")[0] == "not checked"

    monkeypatch.setenv("TRUSTED_PROXIES", "1")

    assert finding(app, "proxies")[0] == "ok"


def test_a_database_that_is_away_is_found_and_its_password_is_not_told(
    app: Flask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = create_engine(f"sqlite:///{tmp_path}/nowhere/app.sqlite3")
    monkeypatch.setattr(doctor, "engine", away)
    monkeypatch.setattr("app.health.engine", away)

    level, told = finding(app, "database")

    assert (level, "unable to open database file" in told) == ("problem", True)
    assert finding(app, "migrations")[0] == "not checked"
    assert finding(app, "connections")[0] == "not checked"


@pytest.mark.skipif(not has_migrations(), reason="there are no migrations")
def test_a_migration_that_was_not_run_is_found(app: Flask, session: scoped_session[Session]) -> None:
    assert finding(app, "migrations")[0] == "ok"

    session.execute(text("DELETE FROM alembic_version"))
    session.commit()

    assert finding(app, "migrations") == ("problem", "one has not been run: run `alembic upgrade head`")


@pytest.mark.skipif(not has_migrations(), reason="there are no migrations")
def test_a_database_of_a_newer_version_is_found(app: Flask, session: scoped_session[Session]) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = 'next'"))
    session.commit()

    assert finding(app, "migrations")[0] == "problem"


def test_more_connections_than_the_server_allows_are_found(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = finding(app, "connections")[0]
    monkeypatch.setenv("WEB_CONCURRENCY", "10000")

    found = finding(app, "connections")[0]

    assert (usual, found) == (("not checked", "not checked") if engine.name == "sqlite" else ("ok", "problem"))


def test_a_check_that_cannot_be_made_is_a_problem_without_a_traceback(
    app: Flask, runner: FlaskCliRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check(_app: Flask) -> doctor.Finding:
        raise LookupError("https://ada:hidden@host: no such port\n")

    monkeypatch.setitem(doctor.CHECKS, "proxies", check)

    result = runner.invoke(args=["doctor"])

    assert "problem      proxies       LookupError: https://ada:***@host: no such port" in result.output
    assert result.exit_code == 1
