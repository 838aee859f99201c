"""A model of the tests' own, so that they do not depend on the models of the app."""

from typing import Any

import pytest
from sqlalchemy import ForeignKey, MetaData, String, select
from sqlalchemy.orm import Mapped, mapped_column, relationship

from app.db import engine, session_factory
from app.models import Base, Versioned


class TestBase(Base):
    """A base with tables of its own, which no migration makes."""

    __abstract__ = True
    __test__ = False
    metadata = MetaData(naming_convention=Base.metadata.naming_convention)


AT_COMMIT: Any = {} if engine.name in ("mysql", "mariadb") else {"deferrable": True, "initially": "DEFERRED"}
"""When the database looks for a parent: MySQL and MariaDB do it at once."""


sqlite_only = pytest.mark.skipif(engine.name != "sqlite", reason="it is about SQLite")
checked_at_commit = pytest.mark.skipif(not AT_COMMIT, reason="this database looks for a parent at once")


class Thing(TestBase):
    """Something with a name that no other thing has."""

    __tablename__ = "things"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    size: Mapped[int] = mapped_column(default=0)
    parts: Mapped[list["Part"]] = relationship(back_populates="thing", passive_deletes="all")


class Part(TestBase):
    """A part of a thing; the database forbids to delete a thing that has parts, when it commits, if it can wait."""

    __tablename__ = "parts"

    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id", **AT_COMMIT))
    thing: Mapped[Thing] = relationship(back_populates="parts")


class Page(Versioned, TestBase):
    """Something that two people edit."""

    __tablename__ = "pages"

    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(String(100))


def saved() -> list[str]:
    """Return the names of the things that are committed: those that another connection sees."""
    with session_factory() as other:
        return list(other.scalars(select(Thing.name).order_by(Thing.id)))
