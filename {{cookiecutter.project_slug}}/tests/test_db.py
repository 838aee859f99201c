"""Tests of the engine and of the session: what it belongs to, and when it ends."""

import asyncio
import os
import threading
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import create_engine, event, inspect, select, text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, scoped_session, sessionmaker

from app.db import current_session, engine, flask_scoped_session, session_factory
from tests.database import open_connections
from tests.things import Part, Thing, sqlite_only


def test_each_context_has_a_session_of_its_own(app: Flask, session: scoped_session[Session]) -> None:
    outside = session()
    with app.app_context():
        outer = session()
        with app.app_context():
            nested = session()
        assert session() is outer
        with app.test_request_context():
            request = session()
        assert session() is outer

    assert session() is outside
    assert len({outside, outer, nested, request}) == 4


def test_a_session_ends_with_its_context(app: Flask, session: scoped_session[Session]) -> None:
    with app.app_context():
        session.execute(text("SELECT 1"))
        assert open_connections(engine) == 1

    assert open_connections(engine) == 0


def test_a_session_ends_with_its_request_even_if_a_teardown_raises(app: Flask, client: FlaskClient) -> None:
    @app.route("/")
    def view() -> str:
        current_session.execute(text("SELECT 1"))
        return ""

    @app.teardown_request
    def fail(_error: BaseException | None) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        client.get("/")
    assert open_connections(engine) == 0


def test_a_thread_and_a_task_have_sessions_of_their_own(session: scoped_session[Session]) -> None:
    found = [session()]
    thread = threading.Thread(target=lambda: found.append(session()))
    thread.start()
    thread.join()

    async def note() -> None:
        found.append(session())

    async def two_tasks() -> None:
        await asyncio.gather(note(), note())

    asyncio.run(two_tasks())

    assert len({id(one) for one in found}) == 4


def test_current_session_is_that_of_the_app(app: Flask, session: scoped_session[Session]) -> None:
    with app.app_context():
        assert current_session() is session()


def test_current_session_outside_a_context_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"current_session .* app\.app_context\(\)"):
        current_session.execute(text("SELECT 1"))


def test_two_apps_have_two_databases(app: Flask, session: scoped_session[Session], tmp_path: Path) -> None:
    other_engine = create_engine(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    other = Flask("other")
    other_session = flask_scoped_session(sessionmaker(other_engine), other)

    with app.app_context(), other.app_context():
        assert current_session() is other_session()
        assert session() is not other_session()
    other_engine.dispose()


@sqlite_only
def test_sqlite_is_set_up_on_every_connection() -> None:
    with engine.connect() as one, engine.connect() as two:
        for connection in (one, two):
            assert connection.scalar(text("PRAGMA foreign_keys")) == 1
            assert connection.scalar(text("PRAGMA journal_mode")) == "wal"
            assert connection.scalar(text("PRAGMA busy_timeout")) == 5000
            assert connection.scalar(text("PRAGMA synchronous")) == 0  # what the tests ask for


@pytest.mark.usefixtures("things")
def test_foreign_keys_are_enforced(session: scoped_session[Session]) -> None:
    session.add(Part(thing_id=99))

    with pytest.raises(IntegrityError):
        session.commit()


@pytest.mark.skipif(engine.name in ("mysql", "mariadb"), reason="this database commits with each DDL")
def test_ddl_rolls_back(session: scoped_session[Session]) -> None:
    session.execute(text("CREATE TABLE temporary (id INTEGER)"))
    session.rollback()

    assert not inspect(engine).has_table("temporary")


@pytest.mark.usefixtures("things")
def test_a_savepoint_rolls_back(session: scoped_session[Session]) -> None:
    session.add(Thing(name="kept"))
    savepoint = session.begin_nested()
    session.add(Thing(name="undone"))
    savepoint.rollback()
    session.commit()

    with session_factory() as other:
        assert other.scalars(select(Thing.name)).all() == ["kept"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_uses_connections_of_its_own(session: scoped_session[Session]) -> None:
    session.execute(text("SELECT 1"))
    with engine.connect() as idle:
        idle.execute(text("SELECT 1"))
    inherited = [session(), session.connection().connection.dbapi_connection]
    opened: list[object] = []

    child = os.fork()
    if child == 0:
        event.listen(engine, "connect", lambda connection, _record: opened.append(connection))
        session.execute(text("SELECT 1"))
        with engine.connect() as second:
            now = [session.connection().connection.dbapi_connection, second.connection.dbapi_connection]
        os._exit(0 if opened == now and session() is not inherited[0] and inherited[1] not in now else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert session.execute(text("SELECT 1")).scalar() == 1
