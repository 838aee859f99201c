"""Column types that mean the same on every database, and what a model has to set: edit only to add a type."""

import enum
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from inspect import getattr_static
from typing import Any, Literal

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    Enum,
    Integer,
    Numeric,
    Time,
    TypeDecorator,
    inspect,
)
from sqlalchemy.dialects.mysql import DATETIME, TIME
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import Mapper

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


class Duration(TypeDecorator[timedelta]):
    """A length of time, stored as a number of microseconds; one of 300,000 years is refused with `OverflowError`."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: timedelta | None, _dialect: Dialect) -> int | None:
        """Return the microseconds."""
        if value is None:
            return None
        microseconds = value // timedelta(microseconds=1)
        if not -(2**63) <= microseconds < 2**63:
            raise OverflowError(f"{value!r} does not fit in a column.")
        return microseconds

    def process_result_value(self, value: int | None, _dialect: Dialect) -> timedelta | None:
        """Return the length of time."""
        return None if value is None else timedelta(microseconds=value)


Name = Enum(enum.Enum, native_enum=False, length=100, validate_strings=True)
"""The name of a member, as text: a type of the database's own would need a migration for each new member.

Nothing else is written, nor compared with; to look for a part of it, `cast(User.state, String(100)).like("%x%")`.
"""

TYPES: dict[Any, Any] = {
    datetime: UTCDateTime(),
    Decimal: Numeric(15, 4),  # SQLite keeps 15 digits; MySQL and MariaDB, unless they are asked, none after the point
    enum.Enum: Name,
    float: Double(),  # MySQL's and MariaDB's FLOAT keeps six digits
    int: LargeInteger,
    Literal: Name,
    time: Time().with_variant(TIME(fsp=6), "mysql", "mariadb"),
    timedelta: Duration(),
}
"""The type of a column that is declared by its annotation alone, such as `size: Mapped[float]`."""


def utc_now() -> datetime:
    """Return the time now, for `mapped_column(default=utc_now)`: it is called for each row."""
    return datetime.now(UTC)


def can_be_set(model: type[Any], name: str) -> bool:
    """Return whether a model has something to set: a column, a relationship, a property with a setter."""
    mapper: Mapper[Any] = inspect(model)
    mapped = mapper.all_orm_descriptors
    descriptor = mapped[name] if name in mapped else getattr_static(model, name, None)
    if isinstance(descriptor, property | hybrid_property):
        return descriptor.fset is not None
    if name in mapper.column_attrs:
        return isinstance(mapper.column_attrs[name].columns[0], Column)  # or an expression
    viewonly = name in mapper.relationships and mapper.relationships[name].viewonly
    return name in mapped and not viewonly and not isinstance(descriptor, hybrid_method)
