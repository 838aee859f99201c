"""A time is the same point in time on every database, whatever the connection makes of it."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone

import pytest
from app.db import engine, session
from app.transactions import transaction
from rules.conftest import RulesBase
from sqlalchemy import select, text
from sqlalchemy.orm import Mapped, mapped_column


class Moment(RulesBase):
    __tablename__ = "moments"
    id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime]


@pytest.fixture(autouse=True)
def moments() -> Iterator[None]:
    Moment.__table__.create(engine)
    yield
    session.remove()
    Moment.__table__.drop(engine)


def test_a_time_is_not_that_of_the_zone_of_the_connection() -> None:
    noon = datetime(2026, 7, 1, 12, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    with transaction():
        if engine.name == "postgresql":  # it alone converts to the zone of the connection
            session.execute(text("SET LOCAL TIME ZONE 'America/New_York'"))
        Moment(at=noon).save()
        at = session.scalar(select(Moment.at))

    assert at == noon
    assert at.tzinfo is UTC
