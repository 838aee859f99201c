"""Tests of a response whose body is made after its request has ended."""

from collections.abc import Iterator

import pytest
from flask import Response
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy.orm import Session, scoped_session

from app.db import engine
from tests.conftest import Route
from tests.things import Part, Thing

pytestmark = pytest.mark.usefixtures("things")


@pytest.mark.parametrize("in_body", [False, True], ids=["of the request", "of the body"])
def test_a_stream_reads_and_leaves_no_connection_open(client: FlaskClient, route: Route, in_body: bool) -> None:
    Thing(name="box").save()

    def view() -> ResponseReturnValue:
        query = Thing.query

        def body() -> Iterator[str]:
            yield from (thing.name for thing in (Thing.query if in_body else query))

        return Response(body())

    route(view)

    assert client.get("/view").text == "box"
    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # typed as a Pool of any kind


def test_a_stream_keeps_the_objects_of_its_view(client: FlaskClient, route: Route) -> None:
    Part(thing=Thing(name="box").save()).save()

    def view() -> ResponseReturnValue:
        box = Thing.query.one()

        def body() -> Iterator[str]:
            yield f"{box.name} has {len(box.parts)} part"

        return Response(body())

    route(view)

    assert client.get("/view").text == "box has 1 part"


def test_the_session_of_a_stream_ends_when_the_client_is_gone(
    client: FlaskClient, route: Route, session: scoped_session[Session]
) -> None:
    def view() -> ResponseReturnValue:
        def body() -> Iterator[str]:
            while True:
                yield str(Thing.query.count())

        return Response(body())

    route(view)

    response = client.get("/view")
    next(response.iter_encoded())
    response.close()

    assert engine.pool.checkedout() == 0  # type: ignore[attr-defined] # typed as a Pool of any kind
