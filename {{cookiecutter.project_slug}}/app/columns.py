"""Column types that mean the same on every database: edit only to add one."""

from datetime import UTC, datetime

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, TypeDecorator
from sqlalchemy.dialects.mysql import DATETIME

LargeInteger = BigInteger().with_variant(Integer, "sqlite")
"""A number of 64 bits; SQLite gives new ids only to a column that it knows as INTEGER, which has 64 bits too."""


class UTCDateTime(TypeDecorator[datetime]):
    """A point in time: aware, in UTC, to the microsecond; a naive one is refused with `ValueError`."""

    # MySQL and MariaDB drop the microseconds unless they are asked for them.
    impl = DateTime(timezone=True).with_variant(DATETIME(fsp=6), "mysql", "mariadb")
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Convert to UTC; without its zone where the database keeps none."""
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value!r} has no time zone: write datetime.now(UTC), not datetime.now().")
        in_utc = value.astimezone(UTC)
        return in_utc if dialect.name == "postgresql" else in_utc.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Return what was stored as UTC."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


def utc_now() -> datetime:
    """Return the time now, for `mapped_column(default=utc_now)`: it is called for each row."""
    return datetime.now(UTC)
