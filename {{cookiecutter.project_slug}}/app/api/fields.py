"""The types of the fields that requests and answers have: each says once what is valid, to readers and to clients."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError, PydanticUndefined
from sqlalchemy import BigInteger, Boolean, Enum, Float, Integer, Numeric, String
from sqlalchemy.orm import InstrumentedAttribute
from sqlalchemy.types import TypeEngine

Item = TypeVar("Item")


class Body(BaseModel):
    """What a client sends as JSON: a field that nobody declared is refused, because it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What a client gets as JSON: made of a model by `model_validate`."""

    model_config = ConfigDict(from_attributes=True)


class Changes(Body):
    """A body in which every field may be left out; `model_dump(exclude_unset=True)` has those that are not."""

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Require no field, and give none a default that the description would show as if it were set."""
        for field in cls.model_fields.values():
            field.default, field.default_factory = PydanticUndefined, object
        cls.model_rebuild(force=True)


class PageQuery(BaseModel):
    """Which part of a list."""

    model_config = ConfigDict(extra="forbid")

    page: int = Field(1, ge=1, le=2**31 - 1)
    per_page: int = Field(20, ge=1, le=100)


class Page(BaseModel, Generic[Item]):
    """Part of a list, and how long the list is."""

    items: list[Item]
    page: int
    per_page: int
    total: int


def stored_in(column: InstrumentedAttribute[Any], default: Any = ...) -> Any:
    """Return the field for a value that has to fit in `column`: how long or how large it may be is declared there.

    Without a default it is required. Not for queries: `true` or "7" is no number here, as it is none in JSON.
    """
    return Field(default, **_limits(column.type))


def _limits(kind: TypeEngine[Any]) -> dict[str, Any]:
    """Return what a value of a column type must be, for pydantic."""
    match kind:
        case Enum():
            return {}
        case String():
            return {"strict": True, "max_length": kind.length}
        case Integer():
            bits = 63 if isinstance(kind, BigInteger) else 31
            return {"strict": True, "ge": -(2**bits), "le": 2**bits - 1}
        case Float():
            return {"strict": True, "allow_inf_nan": False}
        case Numeric():
            return {"max_digits": kind.precision, "decimal_places": kind.scale}
        case Boolean():
            return {"strict": True}
    return {}


# The characters of Unicode that are White_Space (https://www.unicode.org/Public/UCD/latest/ucd/PropList.txt), and controls.
_SPACE = r"\x01-\x20\x7f-\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_READABLE = rf"[{_SPACE}]*[^\x00{_SPACE}][^\x00]*"


def _check_text(value: str) -> str:
    """Refuse a text of spaces, and NUL, which PostgreSQL cannot store."""
    if not re.fullmatch(_READABLE, value):
        raise PydanticCustomError("text", "Write at least one character that is no space, and no NUL")
    return value


Text = Annotated[
    str, AfterValidator(_check_text), Field(json_schema_extra={"pattern": f"^{_READABLE}$", "example": "Some text"})
]
"""A text that says something."""

# What browsers take for an address (https://html.spec.whatwg.org/multipage/input.html#valid-e-mail-address).
_LOCAL = r"[a-zA-Z0-9.!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_ADDRESS = rf"{_LOCAL}@{_LABEL}(?:\.{_LABEL})*"


def _check_email(value: str) -> str:
    """Refuse what is no address."""
    if not re.fullmatch(_ADDRESS, value):
        raise PydanticCustomError("email", "Write an address, such as ada@example.com")
    return value


Email = Annotated[
    str,
    AfterValidator(_check_email),
    Field(json_schema_extra={"pattern": f"^{_ADDRESS}$", "example": "ada@example.com"}),
]
"""An e-mail address."""

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
"""The id of another row."""


def _to_utc(value: datetime) -> datetime:
    """Return the time as the database keeps it."""
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PydanticCustomError("time", "This is before the year 1 or after the year 9999 in UTC") from None


Time = Annotated[AwareDatetime, AfterValidator(_to_utc)]
"""A point in time, with its time zone."""
