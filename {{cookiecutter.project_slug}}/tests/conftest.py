"""The fixtures: a fresh database for every test, the app, its client and commands, and the session of the test."""

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient, FlaskCliRunner
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session, scoped_session
from werkzeug.test import TestResponse

from app import create_app
from app import db as app_db
from tests import database
from tests.things import Thing

Route = Callable[[Callable[[], ResponseReturnValue]], None]


class Client(FlaskClient):
    """A client that first commits what the test has arranged: the app reads it on another connection."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Commit the test's own session, then send the request."""
        app_db.session.commit()
        if own := app_db.session.registry.registry.get(threading.current_thread()):
            own.commit()  # another one than the above where a context is pushed
        return super().open(*args, **kwargs)


@pytest.fixture(scope="session")
def image() -> bytes:
    """The migrated, empty database."""
    return database.build()


@pytest.fixture(autouse=True)
def fresh_database(image: bytes) -> Iterator[None]:
    """Start the test from the migrated, empty database; fail it if it leaves a connection open."""
    database.restore(image)
    yield
    app_db.session.remove()
    if left_open := database.open_connections():
        pytest.fail(f"The test left {left_open} connection(s) open: close its sessions and join its threads.")


@pytest.fixture
def things() -> None:
    """Tables for the model of the tests' own."""
    Thing.metadata.create_all(app_db.engine)


@pytest.fixture
def app() -> Flask:
    """A new app, so that a test may add routes to it."""
    app = create_app({"TESTING": True, "SECRET_KEY": "only for tests"})
    app.test_client_class = Client
    return app


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
def session() -> scoped_session[Session]:
    """The session of the test: what it arranges is committed by the next request of `client`."""
    return app_db.session
