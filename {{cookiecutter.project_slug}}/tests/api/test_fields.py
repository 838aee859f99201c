"""Tests of app/api/fields.py."""

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from sqlalchemy import Integer, Numeric
from sqlalchemy import Text as LongText
from sqlalchemy.orm import Mapped, mapped_column

from app.api.fields import Body, Changes, Email, Id, Text, Time, stored_in
from tests.things import TestBase, Thing


class NewThing(Body):
    """What a thing needs."""

    name: Text = stored_in(Thing.name)


class ThingChanges(Changes, NewThing):
    """What of a thing can be changed."""


class Product(TestBase):
    """Something with values of many types."""

    __tablename__ = "products"

    id: Mapped[int] = mapped_column(primary_key=True)
    note: Mapped[str | None] = mapped_column(LongText)
    small: Mapped[int] = mapped_column(Integer)
    price: Mapped[Decimal] = mapped_column(Numeric(6, 2))
    weight: Mapped[float]
    sold: Mapped[bool]
    sold_at: Mapped[datetime]


class NewProduct(Body):
    """What a product may have."""

    id: int = stored_in(Product.id, 1)
    note: Text | None = stored_in(Product.note, None)
    small: int = stored_in(Product.small, 1)
    price: Decimal = stored_in(Product.price, 1)
    weight: float = stored_in(Product.weight, 1)
    sold: bool = stored_in(Product.sold, False)
    sold_at: Time | None = stored_in(Product.sold_at, None)


@pytest.mark.parametrize("address", ["ada@example.com", "a@b", "o'connor+x@a-b.c", "A.B@C.D"])
def test_an_address_is_accepted(address: str) -> None:
    assert TypeAdapter(Email).validate_python(address) == address


@pytest.mark.parametrize(
    "address", ["", "ada", "@b", "a@", "a b@c", "a@b\n", "a@-b", "a@b..c", "a@b@c", "é@b", "a\0@b"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="such as ada@example"):
        TypeAdapter(Email).validate_python(address)


@pytest.mark.parametrize("text", ["a", " a ", "two\nlines", "é", "李", "\u3000a\xa0"])
def test_a_text_is_accepted_as_it_is(text: str) -> None:
    assert TypeAdapter(Text).validate_python(text) == text


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\xa0", "\u3000\u2003", "\0", "a\0", "\0a"])
def test_a_text_of_spaces_or_with_nul_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="no space, and no NUL"):
        TypeAdapter(Text).validate_python(text)


def test_a_long_text_is_checked_at_once() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python("a" * 1_000_000 + "\0")


@pytest.mark.parametrize("number", [0, -1, 2**63])
def test_a_number_that_is_no_id_is_refused(number: int) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(number)


def test_the_length_of_a_text_is_that_of_its_column() -> None:
    for body in (NewThing, ThingChanges):
        assert body.model_json_schema()["properties"]["name"]["maxLength"] == 100
        assert body(name="x" * 100).model_dump() == {"name": "x" * 100}
        with pytest.raises(ValidationError, match="at most 100"):
            body(name="x" * 101)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 2**63 - 1),
        ("id", -(2**63)),
        ("small", 2**31 - 1),
        ("note", None),
        ("note", "x" * 1000),
        ("price", "9999.99"),
        ("weight", 1),
        ("weight", 0.5),
        ("sold", True),
        ("sold_at", "2026-01-01T00:00:00+02:00"),
    ],
)
def test_a_value_that_fits_in_its_column_is_accepted(field: str, value: Any) -> None:
    NewProduct.model_validate({field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", 2**63),
        ("id", True),
        ("id", "7"),
        ("small", 2**31),
        ("small", -(2**31) - 1),
        ("small", 1.0),
        ("note", 7),
        ("note", ""),
        ("price", "1.239"),
        ("price", "10000"),
        ("price", "1e400"),
        ("weight", float("nan")),
        ("weight", float("inf")),
        ("sold", "yes"),
        ("sold_at", "2026-01-01T00:00:00"),
        ("sold_at", "0001-01-01T00:00:00+23:00"),
        ("sold_at", "9999-12-31T23:59:59-23:00"),
    ],
)
def test_a_value_that_does_not_fit_in_its_column_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        NewProduct.model_validate({field: value})


def test_a_time_is_answered_as_it_is_stored() -> None:
    assert str(TypeAdapter(Time).validate_python("2026-01-01T00:00:00+02:00")) == "2025-12-31 22:00:00+00:00"


def test_only_a_required_field_has_to_be_there() -> None:
    assert ThingChanges.model_validate({}).model_dump(exclude_unset=True) == {}
    assert "required" not in ThingChanges.model_json_schema()
    assert "default" not in ThingChanges.model_json_schema()["properties"]["name"]
    assert NewThing.model_json_schema()["required"] == ["name"]
    with pytest.raises(ValidationError, match="required"):
        NewThing.model_validate({})


def test_a_field_that_nobody_declared_is_refused() -> None:
    with pytest.raises(ValidationError, match="nmae"):
        ThingChanges.model_validate({"nmae": "box"})
