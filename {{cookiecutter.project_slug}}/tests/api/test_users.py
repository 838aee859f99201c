"""Tests of app/api/users.py: delete them together with `User`."""

from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from app.models import User
from tests.factories import factory

new_user = factory(User, name="Ada", email=lambda number: f"user{number}@example.com")
ADA = {"name": "Ada", "email": "ada@example.com"}


@pytest.fixture
def ada() -> User:
    """A user."""
    return User(**ADA).save()


def test_a_user_that_was_added_is_shown(client: FlaskClient) -> None:
    added = client.post("/users", json=ADA)

    assert added.status_code == 201
    assert added.headers["Location"] == "/users/1"
    assert client.get("/users/1").json == added.json
    user: dict[str, Any] = added.get_json()
    assert datetime.now(UTC) >= datetime.fromisoformat(user.pop("created_at"))
    assert user == {"id": 1, **ADA}


def test_users_are_listed_by_id_in_pages(client: FlaskClient) -> None:
    for name in ("Eve", "Dan", "Cyd", "Bob", "Ada"):
        new_user(name=name)

    page: dict[str, Any] = client.get("/users?page=2&per_page=2").get_json()

    assert [user["id"] for user in page.pop("items")] == [3, 4]
    assert page == {"page": 2, "per_page": 2, "total": 5}


def test_a_list_has_twenty_users_unless_asked_otherwise(client: FlaskClient) -> None:
    assert client.get("/users").json == {"items": [], "page": 1, "per_page": 20, "total": 0}


def test_a_change_leaves_the_other_fields(client: FlaskClient, ada: User) -> None:
    changed = client.patch(f"/users/{ada.id}", json={"name": "Countess"})

    assert changed.status_code == 200
    assert changed.json == client.get(f"/users/{ada.id}").json
    assert (changed.get_json()["name"], changed.get_json()["email"]) == ("Countess", "ada@example.com")


def test_a_change_of_nothing_changes_nothing(client: FlaskClient, ada: User) -> None:
    before = client.get(f"/users/{ada.id}").json

    assert client.patch(f"/users/{ada.id}", json={}).json == before


def test_a_user_that_was_deleted_is_gone(client: FlaskClient, ada: User) -> None:
    deleted = client.delete("/users/1")

    assert (deleted.status_code, deleted.text) == (204, "")
    assert client.get("/users/1").status_code == 404


@pytest.mark.parametrize("method", ["GET", "PATCH", "DELETE"])
@pytest.mark.parametrize("user_id", ["2", "0", "2147483648", "9223372036854775808", "9" * 5000, "x", "-1"])
def test_a_user_that_does_not_exist_is_not_found(client: FlaskClient, ada: User, method: str, user_id: str) -> None:
    assert client.open(f"/users/{user_id}", method=method, json={}).status_code == 404


def test_an_address_is_stored_in_lower_case_and_belongs_to_one_user(client: FlaskClient, ada: User) -> None:
    client.post("/users", json={"name": "Grace", "email": "Grace@Example.COM"})

    assert client.get("/users/2").get_json()["email"] == "grace@example.com"
    for taken in (
        client.post("/users", json={"name": "Another Ada", "email": "ADA@example.com"}),
        client.patch("/users/2", json={"email": "Ada@Example.com"}),
    ):
        assert taken.status_code == 409
        assert taken.get_json()["errors"] == [{"field": "email", "message": "already taken"}]
    assert client.get("/users").get_json()["total"] == 2


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", ""),
        ("name", "x" * 101),
        ("name", "a\0"),
        ("email", "x" * 251 + "@b.c"),
        ("email", "ada"),
        ("email", 7),
        ("name", 7),
        ("id", 2),
    ],
)
def test_a_bad_value_is_refused_and_changes_nothing(client: FlaskClient, ada: User, field: str, value: Any) -> None:
    before = client.get("/users").json

    for refused in (
        client.post("/users", json={"name": "Grace", "email": "grace@example.com", field: value}),
        client.patch(f"/users/{ada.id}", json={"name": "Grace", field: value}),
    ):
        assert refused.status_code == 422
        assert [error["field"] for error in refused.get_json()["errors"]] == [field]
    assert client.get("/users").json == before


def test_the_longest_values_are_stored_as_they_are(client: FlaskClient) -> None:
    longest = {"name": "é" * 100, "email": "x" * 250 + "@b.c"}

    added = client.post("/users", json=longest)

    assert added.status_code == 201
    assert client.get("/users/1").get_json()["name"] == longest["name"]
