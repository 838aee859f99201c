"""The rules of the data layer on every database: `on_databases/` runs in a generated project, on a database of its own."""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.servers import database_on, lasting_port

RULES = Path(__file__).parent / "on_databases"


@contextmanager
def database(name: str, folder: Path) -> Iterator[str]:
    """Make an empty database and return its URL."""
    if name == "sqlite":
        yield f"sqlite:///{folder / 'rules.sqlite3'}"
    else:
        with database_on(name) as url:
            yield url


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
@pytest.mark.parametrize("file", sorted(RULES.glob("test_*.py")), ids=lambda path: path.stem)
def test_the_rules_hold(bake: Bake, tmp_path: Path, file: Path, name: str) -> None:
    project = bake()
    shutil.copytree(RULES, project / "rules")

    with database(name, tmp_path) as url:
        result = run(PYTHON, "-m", "pytest", "-q", f"rules/{file.name}", cwd=project, variables={"DATABASE_URL": url})

    assert " passed" in result.stdout


SECOND = '''"""A second migration."""

import time

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    time.sleep(0.3)
    op.create_table("second", sa.Column("id", sa.Integer(), primary_key=True))
    op.execute("INSERT INTO second (id) VALUES (1)")


def downgrade() -> None:
    op.drop_table("second")
'''


@pytest.mark.parametrize("name", ["sqlite", "postgresql", "mariadb"])
def test_four_processes_that_upgrade_at_once_do_it_once(bake: Bake, tmp_path: Path, name: str) -> None:
    project = bake()
    (project / "migrations" / "versions" / "0002_second.py").write_text(SECOND)

    with database(name, tmp_path) as url:
        command = [str(PYTHON), "-m", "alembic", "upgrade", "head"]
        settings = environment(DATABASE_URL=url)
        processes = [
            subprocess.Popen(command, cwd=project, env=settings, stderr=subprocess.PIPE, text=True) for _ in range(4)
        ]
        told = [process.communicate(timeout=120)[1] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0, 0], told
        assert sum(text.count("Running upgrade") for text in told) == 2

        show = """
from sqlalchemy import inspect, text
from app.db import engine
with engine.connect() as connection:
    print(sorted(inspect(connection).get_table_names()))
    print(list(connection.scalars(text("SELECT version_num FROM alembic_version"))))
    print(list(connection.scalars(text("SELECT id FROM second"))))
"""
        shown = run(PYTHON, "-c", show, cwd=project, variables={"DATABASE_URL": url}).stdout.splitlines()
        assert shown == ["['alembic_version', 'second', 'users']", "['0002']", "[1]"]


HALF = """
from app import create_app
from app.db import engine, session
from app.models import User
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

app = create_app({"SECRET_KEY": "x", "TRANSACTION_ATTEMPTS": 2})
runs = []

@app.post("/")
def view():
    runs.append(User(name="Ada", email="ada@example.com").save())
    try:
        session.execute(text("UPDATE users SET name = 'x' WHERE id = 1"))
    except OperationalError:
        pass
    return ""

with engine.connect() as holder:
    User(id=1, name="Bob", email="bob@example.com").save()
    session.commit()
    holder.execute(text("UPDATE users SET name = 'y' WHERE id = 1"))
    print(app.test_client().post("/").status_code, len(runs))
print(session.scalar(text("SELECT COUNT(*) FROM users")))
"""


@pytest.fixture
def strict_mariadb() -> Iterator[str]:
    """A MariaDB of the test's own, in which a lock timeout ends the transaction, and comes after a second."""
    if shutil.which("mariadb-install-db") is None:
        assert not os.environ.get("REQUIRE_SERVICES"), "no mariadb-install-db"
        pytest.skip("no mariadb-install-db")
    as_user = ["--user=mysql"] if os.getuid() == 0 else []
    with TemporaryDirectory() as folder:  # not below pytest's own folder: that is closed to other users
        if as_user:
            shutil.chown(folder, "mysql", "mysql")
        place = ("--no-defaults", *as_user, f"--datadir={folder}/data")
        run("mariadb-install-db", *place, "--auth-root-authentication-method=normal", cwd=Path(folder))
        port = lasting_port()
        options = ("--innodb-rollback-on-timeout", "--innodb-lock-wait-timeout=1", f"--socket={folder}/socket")
        server = subprocess.Popen(
            [
                shutil.which("mariadbd") or "/usr/sbin/mariadbd",
                *place,
                *options,
                f"--port={port}",
                "--bind-address=127.0.0.1",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            for _ in range(300):
                with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.1)
            yield f"mariadb://root@127.0.0.1:{port}/test"
        finally:
            server.terminate()
            server.wait(60)


def test_a_lock_timeout_that_ends_the_transaction_leaves_no_half_of_it(bake: Bake, strict_mariadb: str) -> None:
    project, variables = bake(), {"DATABASE_URL": strict_mariadb}
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project, variables=variables)

    told = run(PYTHON, "-c", HALF, cwd=project, variables=variables).stdout

    assert told.splitlines() == ["503 2", "1"]
