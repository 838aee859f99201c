"""Tests of the column types, on tables of the tests' own."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy import MetaData, select
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Mapped, Session, mapped_column, scoped_session

from app.columns import utc_now
from app.db import engine
from app.models import Base


class TimesBase(Base):
    """A base with tables of its own."""

    __abstract__ = True
    metadata = MetaData()


class Moment(TimesBase):
    """A point in time."""

    __tablename__ = "moments"

    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(default=utc_now)


@pytest.fixture(autouse=True)
def moments() -> None:
    """The table of the moments."""
    TimesBase.metadata.create_all(engine)


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
