"""Tests of app/health.py."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session, scoped_session

from app import health
from tests.database import has_migrations

CountQueries = Callable[[int], AbstractContextManager[None]]

needs_migrations = pytest.mark.skipif(not has_migrations(), reason="there are no migrations")


def test_the_process_lives_and_the_database_is_not_asked(client: FlaskClient, count_queries: CountQueries) -> None:
    with count_queries(0):
        answer = client.get("/healthz")

    assert answer.json == {"status": "ok"}
    assert answer.headers["Cache-Control"] == "no-store"


def test_a_database_with_all_migrations_is_ready_and_asked_little(
    client: FlaskClient, count_queries: CountQueries
) -> None:
    client.get("/readyz")  # it reads the migrations once

    with count_queries(2):
        answer = client.get("/readyz")

    assert (answer.status_code, answer.json) == (200, {"status": "ready"})
    assert answer.headers["Cache-Control"] == "no-store"


@needs_migrations
def test_a_database_that_lacks_a_migration_is_not_ready(client: FlaskClient, session: scoped_session[Session]) -> None:
    session.execute(text("DELETE FROM alembic_version"))

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json) == (503, {"status": "behind"})
    assert answer.headers["Retry-After"] == "5"


@needs_migrations
def test_a_database_that_was_migrated_for_the_next_version_can_be_used(
    client: FlaskClient, session: scoped_session[Session]
) -> None:
    session.execute(text("UPDATE alembic_version SET version_num = 'next'"))

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json) == (200, {"status": "ahead"})


def test_a_database_that_cannot_be_reached_is_down(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health, "engine", create_engine(f"sqlite:///{tmp_path}/nowhere/app.sqlite3"))

    answer = client.get("/readyz")

    assert (answer.status_code, answer.json) == (503, {"status": "down"})
