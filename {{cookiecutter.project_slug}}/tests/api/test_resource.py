"""Tests of app/api/resource.py, with a resource of the tests' own."""

from io import BytesIO
from typing import Any, Self

import pytest
from flask import Flask, abort
from flask.testing import FlaskClient
from pydantic import BaseModel, Field, model_validator
from sqlalchemy import select
from sqlalchemy.orm import Session, scoped_session

from app.api.fields import Answer, Body, Id, Page, PageQuery, Text, stored_in
from app.api.resource import Resource, get_or_404, page_of
from tests.problems import problem
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
    name: str = Field(serialization_alias="called")


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


class FullThing(NewThing):
    """What a full thing needs."""

    @model_validator(mode="after")
    def check(self) -> Self:
        """Refuse a box."""
        if self.name == "box":
            raise ValueError("a box is never full")
        return self


@resource.post("/<int:thing_id>/full")
def fill(path: ThingPath, body: FullThing) -> dict[str, Any]:
    """Fill a thing."""
    return {"name": body.name}


@resource.get("/<int:thing_id>/undescribed")
def show(path: ThingPath) -> ThingAnswer:
    """Show a thing."""
    return ThingAnswer.model_validate(get_or_404(Thing, path.thing_id))


@pytest.fixture
def api(app: Flask) -> None:
    """The app with the resource."""
    app.register_blueprint(resource)


def test_a_model_is_answered_with_its_status(client: FlaskClient) -> None:
    response = client.post("/things", json={"name": "box"})

    assert (response.status_code, response.json) == (201, {"id": 1, "called": "box"})


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


def test_options_need_no_body(client: FlaskClient) -> None:
    assert client.options("/things/1/full").status_code == 200


def test_what_the_app_decides_before_the_view_comes_before_the_body(app: Flask, client: FlaskClient) -> None:
    app.before_request(lambda: abort(401))

    assert client.post("/things", data="{").status_code == 401


def test_a_body_of_unknown_length_is_limited_too(app: Flask, client: FlaskClient) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 20

    def send(body: bytes) -> int:
        streamed = {"wsgi.input": BytesIO(body), "wsgi.input_terminated": True}
        return client.post("/things", content_type="application/json", environ_overrides=streamed).status_code

    assert send(b'{"name":"box"}') == 201
    assert send(b'{"name":"bag"}' + b" " * 100) == 413
    assert saved() == ["box"]


def test_a_body_that_the_server_cannot_read_is_a_bad_request(client: FlaskClient) -> None:
    class Malformed(BytesIO):
        """What a server gives to the app when a chunk has no size."""

        def read(self, _size: int | None = -1) -> bytes:
            """Fail."""
            raise ValueError("no size")

    streamed = {"wsgi.input": Malformed(), "wsgi.input_terminated": True}
    told = problem(client.post("/things", content_type="application/json", environ_overrides=streamed))

    assert told["status"] == 400


def test_at_most_twenty_fields_are_named(client: FlaskClient) -> None:
    told = problem(client.post("/things", json={"name": "box"} | {"x" * 1000 + str(number): 1 for number in range(50)}))

    assert len(told["errors"]) == 20
    assert len(str(told)) < 10_000


def test_a_fault_of_no_single_field_is_in_the_detail(client: FlaskClient) -> None:
    told = problem(client.post("/things/1/full", json={"name": "box"}))

    assert told["detail"] == "Value error, a box is never full"
    assert "errors" not in told


def test_a_resource_may_have_another_prefix_if_it_says_so_itself(app: Flask, client: FlaskClient) -> None:
    other = Resource("others", __name__, url_prefix="/v1/others")
    other.get("")(lambda: {"number": 1})

    with pytest.raises(ValueError, match=r"Give url_prefix to Resource\('others'"):
        app.register_blueprint(other, url_prefix="/v2")
    app.register_blueprint(other)

    assert client.get("/v1/others").json == {"number": 1}
    assert "/v1/others" in client.get("/openapi.json").get_json()["paths"]


def test_a_model_is_answered_though_the_route_does_not_describe_it(client: FlaskClient) -> None:
    Thing(name="box").save()

    assert client.get("/things/1/undescribed").json == {"id": 1, "called": "box"}


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

    assert [thing["called"] for thing in page["items"]] == ["c", "d"]
    assert (page["page"], page["per_page"], page["total"]) == (2, 2, 5)
    assert (beyond["items"], beyond["total"]) == ([], 5)


@pytest.mark.parametrize(
    "query", ["page=0", "page=x", "page=", f"page={2**31}", "per_page=0", "per_page=101", "pages=2"]
)
def test_a_page_that_cannot_be_is_refused(client: FlaskClient, query: str) -> None:
    assert problem(client.get(f"/things?{query}"))["errors"][0]["field"] == query.partition("=")[0]
