"""Tests of a project in production: what gunicorn refuses and logs, and what `flask doctor` says of bad environments."""

import json
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.servers import broker, database_on
from tests.serving import free_port, get

SECRET = "0123456789abcdef" * 4


@contextmanager
def gunicorn(project: Path, **variables: str) -> Iterator[tuple[int, Path]]:
    """Serve a project as `make serve` does, and return its port and its log."""
    log = project.parent / "log"
    port = free_port()
    with log.open("w") as file:
        process = subprocess.Popen(
            [PYTHON, "-m", "gunicorn"],
            cwd=project,
            env=environment(PORT=str(port), SECRET_KEY=SECRET, **variables),
            stderr=file,
        )
        try:
            get(port, "/healthz")
            yield port, log
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({}, "SECRET_KEY is not set"),
        ({"SECRET_KEY": SECRET, "FLASK_DEBUG": "1"}, "FLASK_DEBUG is on"),
        ({"SECRET_KEY": SECRET, "DATABASE_URL": "mysq://h/d"}, "DATABASE_URL 'mysq://***' has no known database"),
        ({"SECRET_KEY": SECRET, "TRUSTED_PROXIES": "all"}, "TRUSTED_PROXIES 'all' is not a whole number"),
        ({"SECRET_KEY": SECRET, "LOG_LEVEL": "loud"}, "LOG_LEVEL 'loud' is not possible"),
    ],
)
def test_gunicorn_does_not_start_with_unsafe_settings(bake: Bake, variables: dict[str, str], message: str) -> None:
    done = run(PYTHON, "-m", "gunicorn", "--bind", "127.0.0.1:0", cwd=bake(), ok=False, variables=variables)

    assert message.replace("***", "h/d") in done.stderr
    assert "app/config.py" not in done.stderr  # no traceback of the app; gunicorn may add one of its own


def test_each_request_is_a_line_of_json_with_an_id(bake: Bake) -> None:
    project = bake()
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)
    run(PYTHON, "-m", "flask", "seed", cwd=project)

    with gunicorn(project, TRUSTED_PROXIES="1") as (port, log):
        request = Request(f"http://127.0.0.1:{port}/users/1?token=hidden", headers={"X-Request-ID": "from-the-proxy"})
        with urlopen(request) as answer:
            assert answer.headers["X-Request-ID"] == "from-the-proxy"
        get(port, "/users/7")
        get(port, "/readyz")

    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    found, missing = (next(line for line in lines if line["path"] == path) for path in ("/users/1", "/users/7"))
    assert found | {"time": "", "ms": 0, "database_ms": 0} == {
        "time": "",
        "level": "INFO",
        "logger": "app.requests",
        "message": found["message"],
        "request_id": "from-the-proxy",
        "method": "GET",
        "path": "/users/1",
        "status": 200,
        "ms": 0,
        "statements": 1,
        "database_ms": 0,
    }
    assert missing["status"] == 404
    assert {line["logger"] for line in lines} == {"app.requests"}, "a library tells more than people ask for"
    assert re.fullmatch("[0-9a-f]{16}", missing["request_id"])
    assert "hidden" not in log.read_text()


def test_in_debug_mode_each_request_is_one_readable_line(bake: Bake) -> None:
    project, port = bake(), free_port()
    command = [str(PYTHON), "-m", "flask", "run", "--debug", "--no-reload", "--port", str(port)]
    with subprocess.Popen(command, cwd=project, env=environment(), stderr=subprocess.PIPE, text=True) as process:
        get(port, "/healthz")
        assert process.stderr
        told: list[str] = []
        while not told or "/healthz" not in told[-1]:  # the line is written when the answer has been sent
            told.append(process.stderr.readline().rstrip())
            assert process.poll() is None
        process.terminate()

    assert f" * Running on http://127.0.0.1:{port}" in told
    line = told[-1]
    assert re.fullmatch(r"INFO GET /healthz 200 in [\d.]+ ms, 0 statements in 0 ms", line)


def test_what_fails_is_logged_without_what_people_have_entered(bake: Bake) -> None:
    project = bake()

    with gunicorn(project) as (port, log):  # without a migration there is no table
        body = json.dumps({"name": "Ada", "email": "private@example.com"}).encode()
        request = Request(f"http://127.0.0.1:{port}/users", body, {"Content-Type": "application/json"})
        with pytest.raises(HTTPError, match="500") as error, urlopen(request):
            pass
        error.value.close()

    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (told,) = [line for line in lines if line["level"] == "ERROR"]
    assert "no such table: users" in told["exception"]
    assert [line.get("path") for line in lines if line.get("request_id") == told["request_id"]] == [None, "/users"]
    assert "private" not in log.read_text()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_database_that_never_answers_is_503_within_seconds(bake: Bake, scheme: str) -> None:
    with socket.socket() as silent:  # it listens, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"{scheme}://ada:p4ssw0rd@127.0.0.1:{silent.getsockname()[1]}/shop"
        with gunicorn(bake(database=scheme), DATABASE_URL=url) as (port, log):
            for path in ("/users/1", "/readyz"):
                began = time.monotonic()
                with pytest.raises(HTTPError, match="503") as error, urlopen(f"http://127.0.0.1:{port}{path}"):
                    pass
                error.value.close()
                assert time.monotonic() - began < 5
                assert int(error.value.headers["Retry-After"]) > 0

    assert "p4ssw0rd" not in log.read_text()


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_migrations_say_in_a_line_that_the_database_is_away(bake: Bake, scheme: str) -> None:
    url = f"{scheme}://ada:p4ssw0rd@127.0.0.1:1/shop"

    done = run(
        PYTHON, "-m", "alembic", "upgrade", "head", cwd=bake(database=scheme), ok=False, variables={"DATABASE_URL": url}
    )

    told = done.stdout + done.stderr
    assert re.search(r"127\.0\.0\.1:1/shop cannot be used: .*: start it, or correct DATABASE_URL\.", told)
    assert "Traceback" not in told
    assert "p4ssw0rd" not in told


def doctor(project: Path, *, ok: bool, **variables: str) -> dict[str, str]:
    """Return what `flask doctor` says of each thing."""
    told = run(PYTHON, "-m", "flask", "doctor", cwd=project, ok=ok, variables=variables).stdout
    assert "p4ssw0rd" not in told
    found = re.findall(r"^(ok|problem|not checked) +(\w+) +(.*)$", told, re.MULTILINE)
    assert len(found) == len(told.splitlines())
    return {what: f"{level}: {text}" for level, what, text in found}


@pytest.mark.parametrize(("database", "server"), [("postgresql", "postgresql"), ("mysql", "mariadb")])
def test_doctor_on_a_server(bake: Bake, database: str, server: str) -> None:
    project = bake(database=database)
    with database_on(server) as url:
        behind = doctor(project, ok=False, DATABASE_URL=url, SECRET_KEY=SECRET)
        run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project, variables={"DATABASE_URL": url})
        good = doctor(project, ok=True, DATABASE_URL=url, SECRET_KEY=SECRET)
        many = doctor(project, ok=False, DATABASE_URL=url, SECRET_KEY=SECRET, WEB_CONCURRENCY="100")
        loose = doctor(project, ok=False, DATABASE_URL=url, SECRET_KEY=SECRET, DATABASE_ISOLATION="read committed")
    away = doctor(project, ok=False, DATABASE_URL=f"{database}://ada:p4ssw0rd@127.0.0.1:1/shop", SECRET_KEY=SECRET)

    assert behind["migrations"].startswith("problem: one has not been run: run `alembic upgrade head`")
    assert not any(text.startswith("problem") for text in good.values())
    assert good["connections"].startswith("ok: 2 processes may open 30, and the server allows ")
    assert re.match(r"problem: 100 processes .*: lower WEB_CONCURRENCY to \d+, or raise", many["connections"])
    assert loose["durability"].startswith("problem: DATABASE_ISOLATION is READ COMMITTED")
    assert away["database"].startswith("problem: ")
    assert away["database"].endswith("start it, or correct DATABASE_URL")
    assert away["migrations"].startswith("not checked: ")


def test_doctor_in_a_bad_environment(bake: Bake) -> None:
    project = bake()
    found = doctor(project, ok=False, SECRET_KEY="changeme", FLASK_DEBUG="1", SQLITE_SYNCHRONOUS="OFF")

    bad = {what for what, text in found.items() if text.startswith("problem: ")}
    assert bad == {"SECRET_KEY", "FLASK_DEBUG", "durability", "migrations"}


def test_doctor_finds_a_database_that_cannot_be_written(bake: Bake) -> None:
    project = bake()
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)
    for path in project.glob("app.sqlite3*"):  # its log too: what that holds would be read
        path.unlink()
    (project / "app.sqlite3").write_text("this is no database, it is a text that somebody has put here\n" * 20)

    found = doctor(project, ok=False, SECRET_KEY=SECRET)

    assert "file is not a database" in found["database"]


@pytest.mark.parametrize("server", ["redis", "rabbitmq"])
def test_doctor_finds_a_queue_that_is_away(bake: Bake, server: str) -> None:
    project = bake(tasks="yes")
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)
    scheme = broker(server).partition(":")[0]

    without = doctor(project, ok=True, SECRET_KEY=SECRET)
    good = doctor(project, ok=True, SECRET_KEY=SECRET, CELERY_BROKER_URL=broker(server))
    away = doctor(project, ok=False, SECRET_KEY=SECRET, CELERY_BROKER_URL=f"{scheme}://ada:p4ssw0rd@127.0.0.1:1/0")

    assert without["queue"].startswith("not checked: CELERY_BROKER_URL is not set")
    assert good["queue"].startswith("ok: ")
    assert away["queue"].startswith("problem: ")
