"""Tests of the tasks, which run in this process: there is no broker."""

from collections.abc import Iterator
from typing import Any

import pytest
from celery.exceptions import Ignore, Retry, SoftTimeLimitExceeded
from celery.signals import worker_init
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue
from sqlalchemy.exc import IntegrityError

from app.db import current_session, session
from app.tasks import TransactionalTask, celery_app
from tests.conftest import Route
from tests.test_conflicts import conflict
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")


@pytest.fixture
def task() -> Iterator[Any]:
    """A task that saves a thing, and raises an error."""

    @celery_app.task
    def save(name: str, error: BaseException | None = None) -> str:
        current_session.add(Thing(name=name))
        if error is not None:
            raise error
        return name

    yield save
    celery_app.tasks.pop(save.name)


def test_a_task_commits(task: TransactionalTask) -> None:
    assert task.delay("box").get() == "box"

    assert saved() == ["box"]


@pytest.mark.parametrize("error", [LookupError(), Retry(), Ignore(), SoftTimeLimitExceeded()], ids=repr)
def test_a_task_that_raises_rolls_back(task: TransactionalTask, error: Exception) -> None:
    result = task.apply(("box", error), throw=False)

    assert not result.successful()
    assert saved() == []


def test_a_commit_that_fails_is_a_failed_task(task: TransactionalTask) -> None:
    task.delay("box")

    result = task.apply(("box",), throw=False)

    assert isinstance(result.result, IntegrityError)
    assert result.failed()


def test_a_task_that_loses_a_conflict_is_repeated(task: TransactionalTask) -> None:
    runs: list[int] = []

    @celery_app.task(attempts=2)
    def count() -> None:
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        if len(runs) == 1:
            raise conflict()

    count.delay().get()

    assert saved() == ["run 2"]


def test_a_task_that_waits_for_its_own_request_is_told_of(client: FlaskClient, route: Route) -> None:
    runs: list[int] = []

    @celery_app.task
    def wait() -> None:
        runs.append(1)
        raise conflict()

    def view() -> ResponseReturnValue:
        wait.delay()
        return ""

    route(view)

    with pytest.raises(RuntimeError, match=r"use delay_on_commit\(\)"):
        client.post("/")
    assert runs == [1]


def test_a_task_that_calls_itself_is_one_transaction() -> None:
    @celery_app.task
    def descend(depth: int) -> None:
        if depth:
            descend(depth - 1)
        Thing(name=f"thing {depth}").save()
        if depth:
            raise LookupError

    descend.apply((1,), throw=False)

    assert saved() == []


def test_as_a_plain_function_it_joins_the_transaction(
    task: TransactionalTask, client: FlaskClient, route: Route
) -> None:
    def view() -> ResponseReturnValue:
        task("box")
        return "", 400

    route(view)
    client.post("/")

    assert saved() == []
    session.rollback()


@pytest.mark.parametrize("status", [200, 400])
def test_delay_on_commit_waits_for_the_commit(
    task: TransactionalTask, client: FlaskClient, route: Route, status: int
) -> None:
    def view() -> ResponseReturnValue:
        Thing(name="box").save()
        task.delay_on_commit("task")
        return "", status

    route(view)
    client.post("/")

    assert saved() == (["box", "task"] if status == 200 else [])


def test_without_a_broker_the_error_of_a_task_is_logged(
    task: TransactionalTask, client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> ResponseReturnValue:
        task.delay_on_commit("box")
        task.delay_on_commit("box")
        return ""

    route(view)

    assert client.post("/").status_code == 200
    assert "IntegrityError" in caplog.text


def test_a_worker_without_a_broker_is_refused() -> None:
    with pytest.raises(SystemExit, match="CELERY_BROKER_URL is not set"):
        worker_init.send(sender=None)
