"""The types of the fields that requests and answers have: each says once what is valid, to readers and to clients."""

import re
from typing import Annotated, Any, Generic, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import InstrumentedAttribute

Item = TypeVar("Item")


class Body(BaseModel):
    """What a client sends as JSON: a field that nobody declared is refused, because it may be a misspelt one."""

    model_config = ConfigDict(extra="forbid")


class Answer(BaseModel):
    """What a client gets as JSON: made of a model by `model_validate`."""

    model_config = ConfigDict(from_attributes=True)


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


def stored_in(column: InstrumentedAttribute[str], *, required: bool = True) -> Any:
    """Return the field for a text that has to fit in `column`, whose length is declared there."""
    length = getattr(column.type, "length", None)
    return Field(max_length=length) if required else Field(max_length=length, default_factory=str)


_VISIBLE = r"[\x01-\x20]*[^\x00-\x20][^\x00]*"


def _check_text(value: str) -> str:
    """Refuse a text of spaces, and NUL, which PostgreSQL cannot store."""
    if not re.fullmatch(_VISIBLE, value):
        raise PydanticCustomError("text", "Write at least one visible character, and no NUL")
    return value


Text = Annotated[
    str, AfterValidator(_check_text), Field(json_schema_extra={"pattern": f"^{_VISIBLE}$", "example": "Some text"})
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

Id = Annotated[int, Field(ge=1, le=2**31 - 1)]
"""The id of another row: what the column of an id holds on every database."""
