"""The fixtures: a fresh database for every test, the app, its client and commands, and the session of the test."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import ref

import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session, scoped_session
from werkzeug.serving import make_server

from app import db as app_db
from app.contexts import current_context
from app.decisions import request_decision
from app.models import Base
from app.scopes import Stream, current_scope
from app.streams import own_session
from tests import DATABASE
from tests.apps import Apps
from tests.database import UnusableDatabaseError, has_migrations
from tests.queries import at_most
from tests.things import Thing

WIDER_FIXTURES = ["what is done while the tests are looked for"]
Route = Callable[[Callable[[], ResponseReturnValue]], None]


def pytest_sessionstart(session: pytest.Session) -> None:
    """Make the schema before the first test is looked for: what is wrong is said once."""
    app_db.engine.hide_parameters = False  # an error of the database shows in a test what was sent
    try:
        if Base.metadata.tables and not has_migrations():
            pytest.exit('There are no migrations: write one with make migration m="create the tables".', returncode=1)
        DATABASE.build(app_db.engine, cache_folder(session.config))
    except UnusableDatabaseError as error:
        pytest.exit(str(error), returncode=1)


def cache_folder(config: pytest.Config) -> Path | None:
    """Return a folder that lasts from run to run; None with `-p no:cacheprovider`, and where it may not be written."""
    cache: pytest.Cache | None = getattr(config, "cache", None)
    try:
        folder = cache.mkdir("database") if cache else None
    except OSError:
        return None
    return folder if folder and os.access(folder, os.W_OK) else None


def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> None:
    """Make the fresh database before any other fixture of a test: pytest would take those of `autouse` by their names."""
    note_wider(fixturedef)
    if fixturedef.scope == "function" and fixturedef.argname != "fresh_database":
        request.getfixturevalue("fresh_database")


def pytest_fixture_post_finalizer(fixturedef: pytest.FixtureDef[Any]) -> None:
    """Note that a fixture of several tests has ended."""
    note_wider(fixturedef)


def note_wider(fixturedef: pytest.FixtureDef[Any]) -> None:
    """Note that a fixture is one of several tests: between those tests, only such ones can write."""
    if fixturedef.scope != "function":
        DATABASE.finish()
        WIDER_FIXTURES.append(fixturedef.argname)


def commit_first(method: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that first commits what the test has arranged: the app reads it on another connection."""

    @wraps(method)
    def commit_then_call(*args: Any, **kwargs: Any) -> Any:
        commit_arranged()
        return method(*args, **kwargs)

    return commit_then_call


def commit_arranged() -> None:
    """Commit the test's own session, of the thread and of a context that the test has pushed."""
    decision = request_decision()
    if (decision is not None and not decision.made) or isinstance(current_scope(), Stream):
        return  # the app itself sends a request
    sessions = app_db.session.sessions
    for arranged in {app_db.session.existing(), sessions.get(ref(threading.current_thread()))}:
        if arranged is not None:
            arranged.commit()


# Of all clients and runners: a test may have another app, which makes them in its own way.
setattr(FlaskClient, "open", commit_first(FlaskClient.open))  # noqa: B010 (a method)
setattr(FlaskCliRunner, "invoke", commit_first(FlaskCliRunner.invoke))  # noqa: B010 (a method)
APPS = Apps()


@pytest.fixture(autouse=True)
def fresh_database() -> Iterator[None]:
    """Start the test from the migrated, empty database; fail it if it leaves a connection or a transaction open."""
    if WIDER_FIXTURES:  # they may have written
        restore_database()
        WIDER_FIXTURES.clear()
    DATABASE.begin()
    yield
    contexts = pop_contexts()
    left_open = restore_database()
    if contexts or left_open:
        found = ", ".join(filter(None, (contexts, left_open)))
        pytest.fail(f"The test left open: {found}. Close its sessions and join its threads.", pytrace=False)


def restore_database() -> str | None:
    """Bring back the migrated, empty database; return what was found open. A test after which this is impossible fails."""
    app_db.session.remove()
    try:
        return DATABASE.restore()
    except UnusableDatabaseError as error:
        reason = str(error)
        WIDER_FIXTURES.append("a test whose rows are still there")
    pytest.fail(reason, pytrace=False)  # out here, so that what led to it is not shown


def pop_contexts() -> str | None:
    """Leave the contexts that a test has pushed: the next one would run within them."""
    found = None
    while context := current_context():
        context.pop()
        found = "a context of the app"
    return found


@pytest.fixture
def things() -> None:
    """Tables for the model of the tests' own."""
    Thing.metadata.create_all(app_db.engine, checkfirst=False)


@pytest.fixture
def app() -> Flask:
    """The app as `create_app` makes it: a test may add routes to it, and change its settings."""
    return APPS.take()


@pytest.fixture
def route(app: Flask) -> Route:
    """A function that makes a view answer `POST /` and `GET /view`."""

    def route(view: Callable[[], ResponseReturnValue]) -> None:
        app.add_url_rule("/", endpoint="posted", view_func=view, methods=["POST"])
        app.add_url_rule("/view", endpoint="view", view_func=view)

    return route


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client that sends requests to the app."""
    return app.test_client()


@pytest.fixture
def runner(app: Flask) -> FlaskCliRunner:
    """A runner of the app's `flask` commands."""
    return app.test_cli_runner()


@pytest.fixture
def count_queries() -> Callable[[int], AbstractContextManager[None]]:
    """A function: its block fails the test if it sends more statements to the database than the function is told."""
    return at_most


@pytest.fixture
def callbacks(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], None]]:
    """The callbacks of `on_commit`: those that would run now wait in this list, until the test calls them."""
    waiting: list[Callable[[], None]] = []

    def keep(callback: Callable[[], object]) -> None:
        def run() -> None:
            with own_session(app):
                callback()

        waiting.append(run)

    monkeypatch.setattr("app.callbacks._call", keep)
    return waiting


@pytest.fixture
def live_server(app: Flask) -> Iterator[str]:
    """The address of the app on a real socket, for a browser; here nobody commits what the test arranges but the test."""
    others = set(threading.enumerate())
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])  # seconds until it sees that it has to stop
    thread.start()
    yield f"http://127.0.0.1:{server.port}"
    server.shutdown()
    for answering in set(threading.enumerate()) - others:
        answering.join(5)  # a client that has gone away leaves its request
    server.server_close()


@pytest.fixture
def session() -> scoped_session[Session]:
    """The session of the test: what it arranges is committed by the next request of `client`."""
    return app_db.session
