"""Tests of app/users.py: delete them together with `User`."""

from datetime import datetime

from flask.testing import FlaskClient

from app.models import User
from tests.factories import factory

new_user = factory(User, name="Ada", email=lambda number: f"user{number}@example.com")


def test_a_user_is_shown_as_json(client: FlaskClient) -> None:
    user = new_user(email="ada@example.com")

    shown = client.get(f"/users/{user.id}").get_json()

    assert datetime.fromisoformat(shown.pop("created_at")) == user.created_at
    assert shown == {"id": 1, "name": "Ada", "email": "ada@example.com"}


def test_a_user_that_does_not_exist_is_not_found(client: FlaskClient) -> None:
    assert client.get("/users/1").status_code == 404
