"""The rules in real processes: gunicorn with workers and threads, on every database, and databases that fail."""

import http.client
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import create_engine, make_url, text

from tests.commands import PYTHON, run
from tests.conftest import Bake
from tests.servers import lasting_port
from tests.serving import free_port, get, serving
from tests.test_databases import RULES, database

DATABASES = ["sqlite", "postgresql", "mariadb"]
TABLES = """
from app.db import engine
from rules.conftest import RulesBase, Thing
from sqlalchemy.orm import Session
RulesBase.metadata.create_all(engine)
with Session(engine) as session:
    session.add(Thing(name="counter"))
    session.commit()
"""


@contextmanager
def served(bake: Bake, url: str, *options: str, **variables: str) -> Iterator[int]:
    """Serve `on_databases/served.py` with gunicorn and return its port."""
    project = bake()
    shutil.copytree(RULES, project / "rules")
    variables |= {"DATABASE_URL": url, "PYTHONPATH": str(project)}
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project, variables=variables)
    run(PYTHON, "-c", TABLES, cwd=project, variables=variables)
    port = free_port()
    command: tuple[str | Path, ...] = (
        PYTHON,
        "-m",
        "gunicorn",
        "--bind",
        f"127.0.0.1:{port}",
        *options,
        "rules.served:app",
    )
    with serving(*command, cwd=project, **variables):
        get(port, "/healthz")
        yield port


REFUSED, CUT_OFF = 0, -1
"""Nobody listens; or somebody does, and does not answer."""


def post(port: int, path: str, times: int = 1) -> list[int]:
    """Send requests on one connection, their numbers in the path; return the statuses, `REFUSED` or `CUT_OFF`."""
    statuses = []
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(times):
        try:
            connection.request("POST", path.format(number))
            answer = connection.getresponse()
            answer.read()
            statuses.append(answer.status)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            statuses.append(REFUSED if isinstance(error, ConnectionRefusedError) else CUT_OFF)
    connection.close()
    return statuses


def scalar(url: str, query: str) -> int:
    """Return what a query finds."""
    driver = {"postgresql": "postgresql+psycopg", "mariadb": "mariadb+pymysql"}
    parts = make_url(url)
    engine = create_engine(parts.set(drivername=driver.get(parts.drivername, parts.drivername)))
    with engine.connect() as connection:
        found = connection.scalar(text(query))
    engine.dispose()
    return int(found or 0)


@pytest.mark.parametrize(("clients", "times"), [(4, 100), (8, 250)])
@pytest.mark.parametrize("name", DATABASES)
def test_no_update_is_lost_by_processes(bake: Bake, tmp_path: Path, name: str, clients: int, times: int) -> None:
    with (
        database(name, tmp_path) as url,
        served(bake, url, "--workers", "4", "--threads", "2") as port,
        ThreadPoolExecutor(clients) as threads,
    ):
        answers = Counter(
            status
            for found in threads.map(lambda _: post(port, "/increment", times), range(clients))
            for status in found
        )

        assert scalar(url, "SELECT size FROM things WHERE id = 1") == answers[200]
        assert set(answers) <= {200, 503}
        if clients == 4:
            assert answers == {200: 400}
        else:
            assert answers[200] > clients * times * 0.95, answers


@pytest.mark.parametrize("options", [(), ("--preload",)], ids=["", "preload"])
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_no_process_shares_a_connection(bake: Bake, tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    with (
        database(name, tmp_path) as url,
        served(bake, url, "--workers", "4", *options, CONNECT_BEFORE_FORK="1") as port,
        ThreadPoolExecutor(8) as threads,
    ):
        found: list[dict[str, int]] = []
        processes: set[int] = set()
        until = time.monotonic() + 30
        while len(processes) < 2 and time.monotonic() < until:  # the first process may be there before the others
            found += [json.loads(body) for _, body in threads.map(lambda _: get(port, "/who"), range(200))]
            processes = {answer["process"] for answer in found}

        backends = {answer["backend"] for answer in found}
        assert len(processes) > 1
        assert len({(answer["process"], answer["backend"]) for answer in found}) == len(backends)
        assert post(port, "/increment", 20) == [200] * 20


@pytest.mark.parametrize("when", ["before", "after", "commit"])
@pytest.mark.parametrize("name", ["postgresql", "mariadb"])
def test_a_connection_that_is_killed_stores_nothing_and_the_app_goes_on(
    bake: Bake, tmp_path: Path, name: str, when: str
) -> None:
    with database(name, tmp_path) as url, served(bake, url, "--workers", "1", "--threads", "4") as port:
        assert post(port, f"/killed/{when}/lost") == [503 if when == "before" else 500]
        assert post(port, "/rows/after") == [201]
        assert scalar(url, "SELECT COUNT(*) FROM things WHERE name LIKE 'lost%'") == 0
        assert scalar(url, "SELECT COUNT(*) FROM things WHERE name = 'after'") == 1


READY, DOWN = '{"status":"ready"}\n', '{"status":"down"}\n'
POSTGRESQL = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


@pytest.fixture
def own_postgresql() -> Iterator[tuple[str, Callable[[str], None]]]:
    """A PostgreSQL of the test's own, and a function that starts and stops it."""
    if not POSTGRESQL:
        assert not os.environ.get("REQUIRE_SERVICES"), "no initdb of PostgreSQL"
        pytest.skip("no initdb of PostgreSQL")
    as_user = ("runuser", "-u", "postgres", "--") if os.getuid() == 0 else ()
    programs, port = POSTGRESQL[-1].parent, lasting_port()
    # Not below pytest's own folder: that is closed to other users, and the server does not run as root.
    with TemporaryDirectory() as folder:
        if as_user:
            shutil.chown(folder, "postgres", "postgres")
        run(*as_user, programs / "initdb", "-D", folder, "-A", "trust", "-U", "postgres", cwd=Path("/"))
        settings = f"-p {port} -k {folder} -c fsync=off"

        def control(command: str) -> None:
            arguments = ("-o", settings) if command == "start" else ("-m", "fast")
            pg_ctl = (*as_user, programs / "pg_ctl", "-D", folder, "-w", "-l", f"{folder}/log", *arguments, command)
            silent = subprocess.DEVNULL
            subprocess.run([str(part) for part in pg_ctl], check=True, stdout=silent, stderr=silent)

        control("start")
        yield f"postgresql://postgres@127.0.0.1:{port}/postgres", control
        control("stop")


def test_a_server_that_is_stopped_and_started_under_load(
    bake: Bake, own_postgresql: tuple[str, Callable[[str], None]]
) -> None:
    url, control = own_postgresql
    stop = threading.Event()
    answers: dict[str, int] = {}

    def load(client: int) -> None:
        connection_count = 0
        while not stop.is_set():
            name = f"{client}-{connection_count}"
            answers[name] = post(port, f"/rows/{name}")[0]
            connection_count += 1

    with served(bake, url, "--workers", "2", "--threads", "4") as port, ThreadPoolExecutor(4) as threads:
        clients = [threads.submit(load, number) for number in range(4)]
        try:
            for _ in range(2):
                time.sleep(1)
                assert get(port, "/readyz") == (200, READY)
                control("stop")
                assert get(port, "/readyz") == (503, DOWN)
                assert get(port, "/healthz")[0] == 200
                time.sleep(1)
                control("start")
                assert get(port, "/readyz") == (200, READY)
            time.sleep(2)
        finally:
            stop.set()
        for client in clients:
            client.result(30)

        assert post(port, "/rows/last", 1) == [201]
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        with engine.connect() as connection:
            stored = set(connection.scalars(text("SELECT name FROM things")))
            waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'"
            assert connection.scalar(text(waiting)) == 0
        engine.dispose()

    statuses = Counter(answers.values())
    assert set(statuses) <= {201, 500, 503}, statuses
    assert statuses[201] > 50
    assert statuses[503] > 0
    # Only a connection that dies at COMMIT leaves it open whether the row is there.
    assert {name for name, status in answers.items() if status == 201} <= stored
    assert not {name for name, status in answers.items() if status == 503} & stored


@pytest.mark.parametrize("name", ["sqlite", "postgresql"])
@pytest.mark.parametrize("times", [1, 7], ids=["new connections", "kept connections"])
def test_a_server_that_is_told_to_stop_cuts_off_nobody(bake: Bake, tmp_path: Path, name: str, times: int) -> None:
    answers: dict[str, int] = {}
    stop = threading.Event()

    def load(client: int) -> None:
        count = 0
        while not stop.is_set():
            name = f"{client}-{count}-{{}}"
            answers.update(zip(map(name.format, range(times)), post(port, f"/rows/{name}", times), strict=True))
            count += 1

    pid = tmp_path / "gunicorn.pid"
    with (
        database(name, tmp_path) as url,
        served(bake, url, "--workers", "2", "--threads", "4", "--pid", str(pid)) as port,
        ThreadPoolExecutor(8) as threads,
    ):
        clients = [threads.submit(load, number) for number in range(8)]
        time.sleep(2)
        os.kill(int(pid.read_text()), signal.SIGTERM)
        while pid.exists():
            time.sleep(0.05)
        stop.set()
        for client in clients:
            client.result(30)

        statuses = Counter(answers.values())
        assert set(statuses) == {201, REFUSED}, statuses
        assert statuses[201] > 100
        found = rows(url)
        assert found == {name for name, status in answers.items() if status == 201}


def rows(url: str) -> set[str]:
    """Return the names of the rows that were added."""
    engine = create_engine(url)
    with engine.connect() as connection:
        found = set(connection.scalars(text("SELECT name FROM things WHERE name <> 'counter'")))
    engine.dispose()
    return found
