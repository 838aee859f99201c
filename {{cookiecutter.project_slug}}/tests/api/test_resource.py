"""Tests of app/api/resource.py, with a resource of the tests' own."""

from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import BaseModel
from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session
from werkzeug.test import TestResponse

from app.api.fields import Answer, Body, Id, Page, PageQuery, Text, stored_in
from app.api.resource import Resource, get_or_404, page_of
from tests.things import Part, Thing, saved

pytestmark = pytest.mark.usefixtures("things", "api")


class NewThing(Body):
    """What a thing needs."""

    name: Text = stored_in(Thing.name)
    part_ids: tuple[Id, ...] = ()


class ThingPath(BaseModel):
    """Which thing."""

    thing_id: int


class ThingAnswer(Answer):
    """A thing."""

    id: int
    name: str


resource = Resource("things", __name__)


@resource.get("", responses={200: Page[ThingAnswer]})
def index(query: PageQuery) -> Page[ThingAnswer]:
    """List the things."""
    return Page[ThingAnswer].model_validate(page_of(select(Thing).order_by(Thing.name), query))


@resource.post("", responses={201: ThingAnswer})
def create(body: NewThing) -> tuple[ThingAnswer, int]:
    """Add a thing."""
    thing = Thing(name=body.name).save()
    for part_id in body.part_ids:
        Part(id=part_id, thing_id=99).save()  # the commit will fail
    return ThingAnswer.model_validate(thing), 201


@resource.post("/<int:thing_id>/empty")
def empty(path: ThingPath) -> dict[str, Any]:
    """Empty a thing; there is nothing to send."""
    return {"emptied": get_or_404(Thing, path.thing_id).name}


@pytest.fixture
def api(app: Flask) -> None:
    """The app with the resource."""
    app.register_blueprint(resource)


def problem(response: TestResponse) -> dict[str, Any]:
    """Return the problem that a response tells."""
    assert response.mimetype == "application/problem+json"
    told: dict[str, Any] = response.get_json()
    assert told["status"] == response.status_code
    return told


def test_a_model_is_answered_with_its_status(client: FlaskClient) -> None:
    response = client.post("/things", json={"name": "box"})

    assert (response.status_code, response.json) == (201, {"id": 1, "name": "box"})


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "application/x+json"])
def test_json_of_any_kind_is_read(client: FlaskClient, content_type: str) -> None:
    assert client.post("/things", data='{"name": "box"}', content_type=content_type).status_code == 201


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"{'name': 'box'}", b"\xff", b"[" * 100_000, b'{"a":' * 100_000, b"1" * 5000],
    ids=["empty", "cut off", "Python", "no UTF-8", "nested", "nested objects", "long number"],
)
def test_what_is_no_json_is_a_bad_request(client: FlaskClient, body: bytes) -> None:
    told = problem(client.post("/things", data=body, content_type="application/json"))

    assert (told["status"], told["title"]) == (400, "Bad Request")
    assert "JSON" in told["detail"]
    assert saved() == []


@pytest.mark.parametrize("content_type", ["", "text/plain", "application/x-www-form-urlencoded"])
def test_what_does_not_say_that_it_is_json_is_unsupported(client: FlaskClient, content_type: str) -> None:
    told = problem(client.post("/things", data='{"name": "box"}', content_type=content_type))

    assert told["status"] == 415
    assert "Content-Type: application/json" in told["detail"]


@pytest.mark.parametrize("body", ["null", "[]", "7", "true", '"text"', '"{\\"name\\": \\"box\\"}"'])
def test_json_that_is_no_object_is_refused(client: FlaskClient, body: str) -> None:
    told = problem(client.post("/things", data=body, content_type="application/json"))

    assert told["status"] == 422
    assert "object" in told["detail"]
    assert saved() == []


def test_every_field_at_fault_is_named(client: FlaskClient) -> None:
    told = problem(client.post("/things", json={"name": 7, "part_ids": [1, 0], "size": 1}))

    assert told["status"] == 422
    assert [error["field"] for error in told["errors"]] == ["name", "part_ids.1", "size"]
    assert all(error["message"] and error["field"] in told["detail"] for error in told["errors"])


def test_a_route_that_declares_no_body_needs_none(client: FlaskClient) -> None:
    Thing(name="box").save()

    assert client.post("/things/1/empty").json == {"emptied": "box"}


def test_a_row_that_is_not_there_is_not_found(client: FlaskClient) -> None:
    assert problem(client.post("/things/1/empty"))["detail"] == "There is no Thing 1."


def test_a_value_that_is_taken_is_a_conflict(client: FlaskClient, session: scoped_session[Session]) -> None:
    Thing(name="box").save()

    told = problem(client.post("/things", json={"name": "box"}))

    assert (told["status"], told["errors"]) == (409, [{"field": "name", "message": "already taken"}])


def test_an_error_of_the_commit_is_told_in_the_same_shape(client: FlaskClient) -> None:
    assert problem(client.post("/things", json={"name": "box", "part_ids": [1]}))["status"] == 409
    assert saved() == []


def test_a_list_is_cut_into_pages(client: FlaskClient) -> None:
    for name in "badce":
        Thing(name=name).save()

    page: dict[str, Any] = client.get("/things?page=2&per_page=2").get_json()
    beyond: dict[str, Any] = client.get(f"/things?page={2**31 - 1}&per_page=100").get_json()

    assert [thing["name"] for thing in page["items"]] == ["c", "d"]
    assert (page["page"], page["per_page"], page["total"]) == (2, 2, 5)
    assert (beyond["items"], beyond["total"]) == ([], 5)


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=", f"page={2**31}", "per_page=0", "per_page=101", "pages=2"]
)
def test_a_page_that_cannot_be_is_refused(client: FlaskClient, query: str) -> None:
    assert problem(client.get(f"/things?{query}"))["errors"][0]["field"] == query.partition("=")[0]
