"""Tests of `transaction`: what a block or a function writes is committed, or none of it."""

import asyncio
from collections.abc import Awaitable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session

from app.db import session
from app.transactions import transaction
from tests.conftest import Route
from tests.test_conflicts import conflict
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")


def write(name: str, error: type[BaseException] | None = None) -> None:
    """Save a thing in a block, and raise."""
    with transaction():
        Thing(name=name).save()
        if error is not None:
            raise error


def test_the_outermost_commits_and_ends_the_session() -> None:
    write("box")

    assert saved() == ["box"]
    assert not session.registry.has()


@pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt])
def test_whatever_is_raised_rolls_back(error: type[BaseException]) -> None:
    with pytest.raises(error):
        write("box", error)

    assert saved() == []


def test_an_inner_one_is_a_savepoint() -> None:
    with transaction():
        write("one")
        with pytest.raises(LookupError):
            write("two", LookupError)
        assert saved() == []

    assert saved() == ["one"]


def test_a_commit_that_fails_is_raised() -> None:
    write("box")

    with pytest.raises(IntegrityError), transaction():
        session.add(Thing(name="box"))

    assert saved() == ["box"]


@pytest.mark.parametrize("status", [200, 400])
def test_in_a_request_the_response_decides(client: FlaskClient, route: Route, status: int) -> None:
    def view() -> ResponseReturnValue:
        write("box")
        return "", status

    route(view)
    client.post("/")

    assert saved() == (["box"] if status == 200 else [])


def test_in_a_nested_context_it_commits_by_itself(app: Flask, client: FlaskClient, route: Route) -> None:
    def view() -> ResponseReturnValue:
        with app.app_context():
            write("box")
        return "", 400

    route(view)
    client.post("/")

    assert saved() == ["box"]


def test_a_function_is_repeated_if_it_loses_a_conflict() -> None:
    runs = []

    @transaction(attempts=3)
    def work(losses: int) -> int:
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        if len(runs) <= losses:
            raise conflict()
        return len(runs)

    assert work(2) == 3
    assert saved() == ["run 3"]
    with pytest.raises(OperationalError):
        work(losses=6)
    assert len(runs) == 6


def test_a_function_whose_commit_loses_a_conflict_is_repeated() -> None:
    runs = []

    def lose(_committing: Session) -> None:
        raise conflict()

    @transaction(attempts=2)
    def work() -> int:
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        if len(runs) == 1:
            event.listen(session(), "before_commit", lose, once=True)
        return len(runs)

    assert work() == 2
    assert saved() == ["run 2"]


def test_a_function_may_be_asynchronous() -> None:
    runs = []

    @transaction(attempts=2)
    async def work() -> None:
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        if len(runs) == 1:
            raise conflict()

    asyncio.run(work())

    assert saved() == ["run 2"]


def test_a_misuse_is_refused() -> None:
    def pieces() -> Iterator[str]:
        yield ""

    async def work() -> None:
        raise LookupError

    def plain() -> Awaitable[None]:
        return work()

    with pytest.raises(TypeError, match="yields"):
        transaction(pieces)
    with pytest.raises(TypeError, match="is asynchronous"):
        transaction(plain)()
    with pytest.raises(TypeError, match="decorate a function"), transaction(attempts=2):
        pass
