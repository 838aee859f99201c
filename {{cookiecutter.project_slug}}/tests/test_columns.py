"""Tests of the column types, on tables of the tests' own."""

import enum
from datetime import UTC, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal

import pytest
from sqlalchemy import MetaData, String, cast, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session

from app.columns import utc_now
from app.db import engine
from app.models import Base


class ColumnsBase(Base):
    """A base with tables of its own."""

    __abstract__ = True
    metadata = MetaData()


class Moment(ColumnsBase):
    """A point in time."""

    __tablename__ = "moments"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)


class State(enum.Enum):
    """Where a parcel is."""

    SENT = "on its way"
    HERE = "at the door"


class Parcel(ColumnsBase):
    """What the databases would keep in different ways."""

    __tablename__ = "parcels"

    id: Mapped[int] = mapped_column(primary_key=True)
    due: Mapped[time]
    kind: Mapped[Literal["box", "letter"]]
    lasts: Mapped[timedelta]
    price: Mapped[Decimal]
    state: Mapped[State]
    weight: Mapped[float]


@pytest.fixture(autouse=True)
def tables() -> None:
    """The tables of these models."""
    ColumnsBase.metadata.create_all(engine)


def test_a_time_comes_back_in_utc_to_the_microsecond(session: scoped_session[Session]) -> None:
    in_berlin = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    Moment(at=in_berlin).save()
    session.commit()

    at = session.scalars(select(Moment.at)).one()

    assert at == in_berlin
    assert at.isoformat() == "2026-07-01T10:00:00.123456+00:00"


def test_each_row_has_the_time_it_was_made(session: scoped_session[Session]) -> None:
    before = datetime.now(UTC)
    first, second = Moment().save(), Moment().save()
    session.commit()

    assert before <= first.at < second.at <= datetime.now(UTC)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(StatementError, match="has no time zone"):
        Moment(at=datetime(2026, 7, 1)).save()  # noqa: DTZ001 (that is the mistake)


def test_values_come_back_as_they_were(session: scoped_session[Session]) -> None:
    values = {
        "due": time(23, 59, 59, 123456),
        "kind": "letter",
        "lasts": timedelta(days=400, microseconds=123457),
        "price": Decimal("12345678901.2345"),
        "state": State.HERE,
        "weight": 123456.123456789,
    }
    Parcel(**values).save()
    session.commit()

    found = session.scalars(select(Parcel)).one()

    assert {name: getattr(found, name) for name in values} == values
    assert session.scalar(text("SELECT state FROM parcels")) == "HERE"
    for condition, is_true in {
        Parcel.kind == "letter": True,
        cast(Parcel.kind, String(100)).like("l%"): True,
        Parcel.state == State.HERE: True,
        Parcel.state.in_([State.SENT, State.HERE]): True,
        Parcel.state == State.SENT: False,
        Parcel.lasts > timedelta(days=1): True,
    }.items():
        assert (session.scalar(select(Parcel.id).where(condition)) == 1) is is_true


@pytest.mark.parametrize("wrong", [{"kind": "van"}, {"state": "LOST"}, {"lasts": timedelta.max}])
def test_what_a_column_cannot_hold_is_refused(wrong: dict[str, Any]) -> None:
    values = {
        "due": time(12),
        "kind": "box",
        "lasts": timedelta(1),
        "price": Decimal(1),
        "state": State.SENT,
        "weight": 1.0,
    }

    with pytest.raises(StatementError, match=r"not among the defined enum values|does not fit"):
        Parcel(**values | wrong).save()
