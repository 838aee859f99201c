"""The fixtures of the rules that hold on every database: tables of their own, on the database of `DATABASE_URL`."""

from collections.abc import Iterator
from typing import Any

import pytest
from app import create_app
from app.db import engine, session
from app.models import Base, Versioned
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Connection, ForeignKey, MetaData, String, create_engine, event, select, text
from sqlalchemy.orm import Mapped, Session, mapped_column


class RulesBase(Base):
    __abstract__ = True
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


class Thing(RulesBase):
    __tablename__ = "things"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    size: Mapped[int] = mapped_column(default=0)


class Part(RulesBase):
    __tablename__ = "parts"
    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id"))


class Page(Versioned, RulesBase):
    __tablename__ = "pages"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


@pytest.fixture(autouse=True)
def tables() -> Iterator[None]:
    """Tables that are empty but for one thing, which has no size yet."""
    metadata = RulesBase.metadata
    metadata.drop_all(engine)
    metadata.create_all(engine)
    with Session(engine) as own:
        own.add(Thing(name="counter"))  # its id is 1
        own.commit()
    yield
    session.remove()
    assert engine.pool.checkedout() == 0, "a connection is left open"


@pytest.fixture
def app() -> Flask:
    return create_app({"SECRET_KEY": "only for tests", "PROPAGATE_EXCEPTIONS": False})


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def names() -> list[str]:
    """Return the names of the things that are committed, but for the counter."""
    with Session(engine) as own:
        return list(own.scalars(select(Thing.name).where(Thing.id != 1).order_by(Thing.id)))


def size() -> int:
    """Return the committed size of the counter."""
    with Session(engine) as own:
        return own.get_one(Thing, 1).size


BACKEND = "SELECT pg_backend_pid()" if engine.name == "postgresql" else "SELECT connection_id()"


def kill(connection: Connection) -> None:
    """End a connection from another one, as an administrator would."""
    kill_backend(connection.scalar(text(BACKEND)))


def kill_backend(backend: Any) -> None:
    """End the connection that has a number on the server."""
    others = create_engine(engine.url, isolation_level="AUTOCOMMIT")
    with others.connect() as administrator:
        if engine.name == "postgresql":
            administrator.execute(text("SELECT pg_terminate_backend(:backend, 5000)"), {"backend": backend})
        else:
            administrator.exec_driver_sql(f"KILL {backend}")
    others.dispose()


@pytest.fixture
def impatient() -> Iterator[None]:
    """Let SQLite wait for its lock no longer than a moment."""

    def set_wait(connection: Any, *_: object) -> None:
        if engine.name == "sqlite":
            connection.execute("PRAGMA busy_timeout = 10")

    event.listen(engine, "checkout", set_wait)
    yield
    event.remove(engine, "checkout", set_wait)
    engine.dispose()


@pytest.fixture
def begins() -> Iterator[list[str]]:
    """The statements with which SQLite begins its transactions."""
    found: list[str] = []

    def trace(connection: Any, *_: object) -> None:
        connection.set_trace_callback(lambda sent: found.append(sent) if sent.startswith("BEGIN") else None)

    event.listen(engine, "checkout", trace)
    yield found
    event.remove(engine, "checkout", trace)
    engine.dispose()
