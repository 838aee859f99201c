"""The database of the tests: built once by the migrations, restored for every test. Edit only to use another."""

import gc
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import QueuePool

from app.config import ROOT
from app.db import engine
from tests import FOLDER

FILE = FOLDER / "test.sqlite3"


def alembic_config() -> Config:
    """Return the Alembic configuration of the project."""
    return Config(toml_file=ROOT / "pyproject.toml")


def build() -> bytes:
    """Make the schema with `alembic upgrade head` and return the image of the database file."""
    refuse_foreign_database()
    command.upgrade(alembic_config(), "head")
    engine.dispose()  # the last connection moves what the migrations wrote from the log into the file
    return FILE.read_bytes()


def restore(image: bytes) -> None:
    """Put the migrated, empty database in the place of what the last test left.

    The file is replaced, not written over: who still has the old one open keeps that, and nobody waits.
    """
    engine.dispose()
    for suffix in ("", "-wal", "-shm"):
        Path(f"{FILE}{suffix}").unlink(missing_ok=True)
    FILE.write_bytes(image)


def open_connections() -> int:
    """Return how many connections are checked out of the pool."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    if pool.checkedout():
        gc.collect()
    return pool.checkedout()


def refuse_foreign_database() -> None:
    """Touch no database but that of this run.

    :raises RuntimeError: if the app was imported before `tests` had named the database.
    """
    if engine.url.database != str(FILE):
        raise RuntimeError(f"The tests run on {FILE} only, and the app has {engine.url.database}: import tests first.")
