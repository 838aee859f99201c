"""Tests of the report of work that nobody has committed."""

import threading
from collections.abc import Iterator

import pytest
from flask import Flask, Response, copy_current_request_context
from flask.testing import FlaskClient
from flask.typing import ResponseReturnValue

from tests.conftest import Route
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")


def test_a_stream_that_writes_without_a_commit_is_reported(
    client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> ResponseReturnValue:
        def body() -> Iterator[str]:
            Thing(name="box").save()
            yield "done"

        return Response(body())

    route(view)

    with pytest.raises(RuntimeError, match="INSERT INTO things"):
        client.get("/view").get_data()
    assert "Discarded what nobody has committed: INSERT INTO things" in caplog.text
    assert saved() == []


def test_a_teardown_that_writes_is_reported(app: Flask, client: FlaskClient, route: Route) -> None:
    @app.teardown_request
    def write(_error: BaseException | None) -> None:
        Thing(name="late").save()

    route(lambda: "")

    with pytest.raises(RuntimeError, match="INSERT INTO things"):
        client.post("/")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_writes_in_a_copied_context_is_reported(
    client: FlaskClient, route: Route, caplog: pytest.LogCaptureFixture
) -> None:
    def view() -> ResponseReturnValue:
        thread = threading.Thread(target=copy_current_request_context(lambda: Thing(name="lost").save()))
        thread.start()
        thread.join()
        return ""

    route(view)

    assert client.post("/").status_code == 200
    assert "Discarded what nobody has committed: INSERT INTO things" in caplog.text


def test_a_context_that_is_left_without_a_commit_is_reported(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with app.app_context():
        Thing(name="lost").save()

    assert "Discarded what nobody has committed: INSERT INTO things" in caplog.text
