"""Tests of app/api/fields.py."""

import pytest
from pydantic import TypeAdapter, ValidationError

from app.api.fields import Body, Email, Id, Text, stored_in
from tests.things import Thing


class NewThing(Body):
    """What a thing needs."""

    name: Text = stored_in(Thing.name)


class ThingChanges(Body):
    """What of a thing can be changed."""

    name: Text = stored_in(Thing.name, required=False)


@pytest.mark.parametrize("address", ["ada@example.com", "a@b", "o'connor+x@a-b.c", "A.B@C.D"])
def test_an_address_is_accepted(address: str) -> None:
    assert TypeAdapter(Email).validate_python(address) == address


@pytest.mark.parametrize(
    "address", ["", "ada", "@b", "a@", "a b@c", "a@b\n", "a@-b", "a@b..c", "a@b@c", "é@b", "a\0@b"]
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="such as ada@example"):
        TypeAdapter(Email).validate_python(address)


@pytest.mark.parametrize("text", ["a", " a ", "two\nlines", "é", "李", "\u200b"])
def test_a_text_is_accepted_as_it_is(text: str) -> None:
    assert TypeAdapter(Text).validate_python(text) == text


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\0", "a\0", "\0a"])
def test_a_text_without_a_visible_character_or_with_nul_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="visible character"):
        TypeAdapter(Text).validate_python(text)


def test_a_long_text_is_checked_at_once() -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Text).validate_python("a" * 1_000_000 + "\0")


@pytest.mark.parametrize("number", [0, -1, 2**31])
def test_a_number_that_is_no_id_is_refused(number: int) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Id).validate_python(number)


def test_the_length_of_a_text_is_that_of_its_column() -> None:
    for body in (NewThing, ThingChanges):
        assert body.model_json_schema()["properties"]["name"]["maxLength"] == 100
        assert body(name="x" * 100).model_dump() == {"name": "x" * 100}
        with pytest.raises(ValidationError, match="at most 100"):
            body(name="x" * 101)


def test_only_a_required_field_has_to_be_there() -> None:
    assert ThingChanges().model_dump(exclude_unset=True) == {}
    with pytest.raises(ValidationError, match="required"):
        NewThing.model_validate({})


def test_a_field_that_nobody_declared_is_refused() -> None:
    with pytest.raises(ValidationError, match="nmae"):
        ThingChanges.model_validate({"nmae": "box"})
