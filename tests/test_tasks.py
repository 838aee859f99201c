"""Tasks on real brokers, in real workers, on a real database."""

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from kombu import Connection
from sqlalchemy import create_engine, text

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.servers import broker, database_on

TASKS = """

import time
from pathlib import Path
from sqlalchemy import text
from app.db import engine, session
from app.models import User

celery_app.conf.task_default_queue = os.environ["QUEUE"]
OF_THE_PARENT = engine.connect()
BACKEND_OF_THE_PARENT = OF_THE_PARENT.scalar(text("SELECT pg_backend_pid()"))


@celery_app.task
def add(name, started=None):
    User(name=name, email=name).save()
    if started and not Path(started).exists():
        Path(started).write_text(str(os.getpid()))
        time.sleep(60)


@celery_app.task
def collide(email):
    session.add(User(name="late", email=email))


@celery_app.task(bind=True, max_retries=1, default_retry_delay=0)
def retried(self, name):
    User(name=name, email=f"{name} {self.request.retries}").save()
    if self.request.retries == 0:
        raise self.retry()


@celery_app.task(soft_time_limit=1)
def slow(name):
    User(name=name, email=name).save()
    time.sleep(10)


@celery_app.task
def pids():
    time.sleep(0.3)
    return os.getpid(), session.scalar(text("SELECT pg_backend_pid()")), BACKEND_OF_THE_PARENT
"""

QUEUE = """
from flask import request
from app import create_app
from app.models import User
from app.tasks import add, collide, pids, retried, slow

app = create_app({"SECRET_KEY": "x"})

@app.post("/queue/<name>/<int:status>")
def view(name, status):
    User(name=name, email=name).save()
    add.delay_on_commit(f"{name} task")
    return "", status

client = app.test_client()
assert client.post("/queue/kept/200").status_code == 200
assert client.post("/queue/dropped/400").status_code == 400
for task, email in ((collide, "kept"), (retried, "retried"), (slow, "slow")):
    result = task.delay(email)
    try:
        result.get(timeout=30)
        print(email, "succeeded")
    except Exception as error:
        print(email, result.state, "UniqueViolation" in str(error), "SoftTimeLimit" in repr(error))
found = [result.get(timeout=30) for result in [pids.delay() for _ in range(8)]]
processes = {process: backend for process, backend, _ in found}
print("processes", len(processes), "backends", len({*processes.values(), found[0][2]}))
"""


@contextmanager
def worker(project: Path, variables: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a worker with two processes while the block runs."""
    command = ("-m", "celery", "--app", "app.tasks", "worker", "--concurrency", "2", "--loglevel", "info")
    quiet = ("--without-gossip", "--without-mingle", "--without-heartbeat")
    with (project / "worker.log").open("a") as log:
        process = subprocess.Popen(
            [str(PYTHON), *command, *quiet, "--queues", variables["QUEUE"]],
            cwd=project,
            env=environment(**variables),
            stdout=log,
            stderr=log,
            text=True,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)


def wait_for(condition: Callable[[], object], project: Path) -> None:
    """Wait until something is true; fail with the log of the worker."""
    for _ in range(300):
        if condition():
            return
        time.sleep(0.1)
    raise AssertionError((project / "worker.log").read_text())


@pytest.fixture(params=["redis", "rabbitmq"])
def queue(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """The settings for a broker and a queue of its own."""
    results = broker("redis")
    name = f"template-test-{uuid4().hex[:12]}"
    settings = {"CELERY_BROKER_URL": broker(request.param), "CELERY_RESULT_BACKEND": results, "QUEUE": name}
    yield settings
    with Connection(settings["CELERY_BROKER_URL"]) as connection:
        channel: Any = connection.default_channel
        channel.queue_delete(name)


def test_tasks_run_in_transactions_and_survive_a_killed_process(
    bake: Bake, tmp_path: Path, queue: dict[str, str]
) -> None:
    project = bake(tasks="yes", database="postgresql")
    with (project / "app" / "tasks.py").open("a") as tasks:
        tasks.write(TASKS)

    with database_on("postgresql") as url:
        variables = {**queue, "DATABASE_URL": url}
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))

        def names() -> list[str]:
            with engine.connect() as connection:
                return sorted(connection.scalars(text("SELECT name FROM users")))

        run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project, variables=variables)
        with worker(project, variables):
            told = run(PYTHON, "-c", QUEUE, cwd=project, variables=variables).stdout.splitlines()
            assert told == [
                "kept FAILURE True False",
                "retried succeeded",
                "slow FAILURE False True",
                "processes 2 backends 3",
            ]
            wait_for(lambda: names() == ["kept", "kept task", "retried"], project)

            # A process of the worker is killed in the middle of a task.
            started = tmp_path / "first"
            later = f"from app.tasks import add; add.delay('killed', {str(started)!r})"
            run(PYTHON, "-c", later, cwd=project, variables=variables)
            wait_for(lambda: started.exists() and started.read_text(), project)
            os.kill(int(started.read_text()), signal.SIGKILL)
            wait_for(lambda: "killed" in names(), project)

            if queue["CELERY_BROKER_URL"].startswith("amqp"):
                # RabbitMQ knows at once that the whole worker is gone; Redis gives the task back after an hour.
                started = tmp_path / "second"
                later = f"from app.tasks import add; add.delay('orphan', {str(started)!r})"
                run(PYTHON, "-c", later, cwd=project, variables=variables)
                wait_for(lambda: started.exists() and started.read_text(), project)
        if queue["CELERY_BROKER_URL"].startswith("amqp"):
            assert "orphan" not in names()
            with worker(project, variables):
                wait_for(lambda: "orphan" in names(), project)

        assert len(names()) == len(set(names()))
        engine.dispose()


def test_without_a_broker_that_answers_a_request_is_answered_soon(bake: Bake) -> None:
    project = bake(tasks="yes")
    request = """
import time
from app import create_app
from app.tasks import celery_app

@celery_app.task
def work(): ...

app = create_app({"SECRET_KEY": "x"})

@app.post("/queue")
def view():
    work.delay_on_commit()
    return "queued"

start = time.monotonic()
print(app.test_client().post("/queue").text, time.monotonic() - start < 10)
"""
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it listens, and says nothing
        for port in (1, silent.getsockname()[1]):
            for url in (f"redis://127.0.0.1:{port}/0", f"amqp://guest:guest@127.0.0.1:{port}//"):
                done = run(PYTHON, "-c", request, cwd=project, variables={"CELERY_BROKER_URL": url})
                assert done.stdout.split() == ["queued", "True"]
                assert "a callback of on_commit failed" in done.stderr


def test_make_worker_starts_a_worker(bake: Bake) -> None:
    done = run("make", "--dry-run", "worker", "UV=", cwd=bake(tasks="yes"))

    assert "celery --app app.tasks worker" in done.stdout
