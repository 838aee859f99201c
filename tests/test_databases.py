"""The rules of the data layer on every database: `on_databases/` runs in a generated project, on a database of its own."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.servers import database_on

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
