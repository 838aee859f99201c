"""The database of the tests: built once by the migrations, restored for every test. Edit only to use another.

A run has databases of its own, which no other run uses: files in a temporary folder on SQLite; on a server
(`postgresql.py`, `mysql.py`) databases that the tests have made, named after that in `TEST_DATABASE_URL`.
"""

import atexit
import gc
import hashlib
import os
import re
import shutil
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import lru_cache, wraps
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import sqlalchemy
from sqlalchemy import Connection, Engine, QueuePool, event
from sqlalchemy.pool import ConnectionPoolEntry

if TYPE_CHECKING:
    from alembic.config import Config

ROOT = Path(__file__).resolve().parent.parent


# What a connection keeps when its transaction has ended; a block or a procedure may do anything.
STATE = re.compile(
    r"(^|;)(\s|--[^\n]*|/\*M?!\d*|/\*.*?\*/)*(SET|RESET|DISCARD|LISTEN|PREPARE|DECLARE|LOAD|PRAGMA|ATTACH|DETACH"
    r"|USE|FLUSH|BACKUP|HANDLER|XA|LOCK\s+TABLE(?!.*\bMODE\b)S?|CREATE\s+(OR\s+REPLACE\s+|LOCAL\s+)*TEMP\w*"
    r"|DO|CALL|EXECUTE|BEGIN\s+NOT)\b"
    r"|(advisory_lock(_shared)?|GET_LOCK|set_config)\b|:=|\bINTO\s+@",
    re.IGNORECASE | re.DOTALL,
)


@lru_cache
def matches(pattern: re.Pattern[str], statement: str) -> bool:
    """Return whether a pattern is found in a statement: the same ones are sent in each test."""
    return pattern.search(statement) is not None


class UnusableDatabaseError(Exception):
    """The tests cannot start; it says in one line why, and what to do."""


class Database:
    """A database that only this run of the tests uses."""

    engine: Engine
    generation = 0
    has_state = False
    earlier: set[threading.Thread] | None = None
    """The threads that were there before the test; None between tests, when the threads of wider fixtures may be at work."""

    def __init__(self, url: str) -> None:
        """Use the database that a URL names."""
        self.url = url
        self.users: dict[ConnectionPoolEntry, threading.Thread] = {}
        self.left: WeakSet[threading.Thread] = WeakSet()

    def build(self, engine: Engine, cache: Path | None) -> None:
        """Make the schema on the app's engine, or take what an earlier run has made from the same migrations.

        :raises UnusableDatabaseError: if `alembic upgrade head` fails.
        """
        raise NotImplementedError

    def begin(self) -> None:
        """Begin a test."""
        self.earlier = set(threading.enumerate())

    def restore(self) -> str | None:
        """Bring back what the migrations made, whatever was done since; return what was found open, and is rolled back."""
        in_use = self._wait_for_connections()
        self.users.clear()
        self.earlier = None
        if self.has_state:
            self.reconnect()
        if in_use:
            self.disconnect()
        found = [f"{in_use} connection(s)"] if in_use else []
        return ", ".join(found + self.put_back()) or None

    def _wait_for_connections(self) -> int:
        """Wait a second for the connections of the app that are in use, and return how many still are.

        The threads that the test has started, and that have used them meanwhile, get no others: they would reach the next test.
        """
        end = time.monotonic() + 1
        users: set[threading.Thread] = set()
        while in_use := open_connections(self.engine):
            users.update(tuple(self.users.values()))
            if time.monotonic() >= end:
                self.left.update(users - (self.earlier or users))
                break
            time.sleep(0.01)
        return in_use

    def finish(self) -> None:
        """Wait until the database is back, if `restore` has not."""

    def reconnect(self) -> None:
        """Let the app begin with new connections; those that it still uses end when it gives them back."""
        self.generation += 1
        self.engine.dispose()
        self.has_state = False

    def disconnect(self) -> None:
        """Let those who are still connected reach nothing any more."""
        self.reconnect()

    def use(self, engine: Engine) -> None:
        """Take the app's engine, and note to which generation each of its connections belongs."""
        self.engine = engine
        event.listen(engine, "connect", lambda _, record: record.info.update(generation=self.generation))
        event.listen(engine, "checkin", self._take_back)
        event.listen(engine, "do_connect", self._refuse)
        event.listen(engine, "checkout", self._lend)
        for name in ("do_execute", "do_executemany", "do_execute_no_params"):
            event.listen(engine, name, self._note_state)
        # Who has the driver's connection may do anything with it; SQLAlchemy itself asks for it in the same way.
        setattr(Engine, "raw_connection", self._note_handing_out(Engine.raw_connection))  # noqa: B010 (a method)
        setattr(Connection, "connection", property(self._note_handing_out(vars(Connection)["connection"].fget)))  # noqa: B010

    def _note_state(self, _cursor: object, statement: str, *_: object) -> None:
        """Wait for the database, and note that a connection is no longer as a new one: it goes back to the pool as it is."""
        self.finish()
        self.has_state = self.has_state or matches(STATE, statement)

    def _note_handing_out(self, method: Callable[[Any], Any]) -> Callable[[Any], Any]:
        """Return a method that notes the same when somebody else than SQLAlchemy calls it."""

        @wraps(method)
        def note_then_hand_out(source: Any) -> Any:
            if not sys._getframe(1).f_globals["__name__"].startswith("sqlalchemy."):
                self.has_state = self.has_state or source.engine.pool is self.engine.pool
            return method(source)

        return note_then_hand_out

    def _refuse(self, *_: object) -> None:
        """Give no connection to a thread that has outlived its test.

        :raises RuntimeError: in such a thread.
        """
        if threading.current_thread() in self.left:
            raise RuntimeError("The test that has started this thread has ended: it gets no connection any more.")

    def _lend(self, _connection: object, record: ConnectionPoolEntry, _proxy: object) -> None:
        """Note who uses a connection."""
        self._refuse()
        self.users[record] = threading.current_thread()

    def _take_back(self, _connection: object, record: ConnectionPoolEntry) -> None:
        """Note that nobody uses a connection any more; close it if its pool is no longer used."""
        self.users.pop(record, None)
        if record.info.get("generation") != self.generation:
            record.close()

    def put_back(self) -> list[str]:
        """Bring back what the migrations made; return the transactions that were found open."""
        raise NotImplementedError


class SQLite(Database):
    """A file: its tables are emptied; after anything else its image is written over it, or put in its place."""

    def __init__(self, worker: str) -> None:
        """Name the file: each run and each xdist worker has a folder of its own."""
        folder = Path(tempfile.mkdtemp(prefix=f"test-{worker}-"))
        atexit.register(_remove, folder, os.getpid())
        self.file = folder / "test.sqlite3"
        self.image = folder / "image.sqlite3"
        self.cursors: WeakSet[Any] = WeakSet()
        super().__init__(f"sqlite:///{self.file}")
        # What the tests write need not survive a power cut.
        os.environ["SQLITE_SYNCHRONOUS"] = "OFF"

    def build(self, engine: Engine, cache: Path | None) -> None:
        """Read the image from `cache`, or make it and keep it there."""
        self.use(engine)
        kept = (cache or self.file.parent) / f"{schema_key(sqlite3.sqlite_version)}.image"
        try:
            shutil.copyfile(kept, self.image)
        except FileNotFoundError:
            upgrade(engine)  # the last connection, when it closes, moves what was written from the log into the file
            shutil.copyfile(self.file, self.image)
            self._keep(kept)
        self.own = sqlite3.connect(":memory:")
        self._replace()
        tables = [name for (name,) in self.own.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        filled = [table for table in tables if self.own.execute(f'SELECT 1 FROM "{table}"').fetchone()]
        self.rows = {table: self._rows(table) for table in filled}
        questions = [
            f"SELECT '{name}' WHERE EXISTS (SELECT 1 FROM \"{name}\")" for name in tables if name not in filled
        ]
        # SQLite takes up to 500 of them in a statement.
        self.written = [" UNION ALL ".join(questions[start : start + 400]) for start in range(0, len(questions), 400)]

    def restore(self) -> str | None:
        """Bring back the image, with other connections if a result may not have been read to its end: it keeps what they see."""
        self.has_state = self.has_state or bool(self.cursors)
        self.cursors.clear()
        return super().restore()

    def _note_state(self, cursor: Any, statement: str, *more: object) -> None:
        """Note who reads too."""
        super()._note_state(cursor, statement, *more)
        self.cursors.add(cursor)

    def disconnect(self) -> None:
        """Let those who are still connected keep the old file."""
        super().disconnect()
        self.file.unlink(missing_ok=True)

    def put_back(self) -> list[str]:
        """Empty what was written; if that is not enough, replace the file. Nobody waits."""
        if self._files() != self.files:
            self._replace()
            return []
        try:
            self.own.execute("BEGIN IMMEDIATE")
            emptied = self._empty()
            self.own.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            self._replace()
            in_use = getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY")
            return ["a transaction that has written"] if in_use else []
        if not emptied:
            self._overwrite()
        self._mark()
        return []

    def _empty(self) -> bool:
        """Delete what was written; return whether all is as it was made then."""
        try:
            if self.file.stat().st_mtime or self._schema() != self.schema:
                return False
            for table in self._written():
                self.own.execute(f'DELETE FROM "{table}"')
            kept = all(self._rows(table) == rows for table, rows in self.rows.items())
            return kept and not self._written()  # a trigger may have written meanwhile
        except sqlite3.DatabaseError:  # or refused
            return False

    def _files(self) -> list[int | None]:
        """Return which files are there; one that was emptied past SQLite makes others forget its log."""
        found: list[int | None] = []
        for suffix in ("", "-wal", "-shm"):
            try:
                status = os.stat(f"{self.file}{suffix}")  # noqa: PTH116 (a path costs more)
            except FileNotFoundError:
                found.append(None)
            else:
                found.append(status.st_ino if status.st_size or suffix else None)
        return found

    def _mark(self) -> None:
        """Date the file back: who writes it without SQLite is seen then. What SQLite writes is in its log at first."""
        os.utime(self.file, (0, 0))

    def _schema(self) -> list[object]:
        """Return what changes with each change of the schema, and what is stored beside it."""
        return [
            self.own.execute(f"PRAGMA {name}").fetchone()
            for name in ("schema_version", "user_version", "application_id")
        ]

    def _written(self) -> list[str]:
        """Return the tables that have rows, of those that are made empty."""
        return [name for question in self.written for (name,) in self.own.execute(question)]

    def _rows(self, table: str) -> list[object]:
        """Return the rows of a table."""
        return self.own.execute(f'SELECT * FROM "{table}"').fetchall()

    def _overwrite(self) -> None:
        """Write the image over the file: whoever is connected reads it. Replace the file if somebody is writing meanwhile."""

        def give_up(status: int, _remaining: int, _total: int) -> None:
            if status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise InterruptedError

        image = sqlite3.connect(self.image)
        try:
            image.backup(self.own, progress=give_up)
            self.schema = self._schema()
        except (sqlite3.DatabaseError, InterruptedError):
            self._replace()
        finally:
            image.close()

    def _replace(self) -> None:
        """Put the image in the place of the file."""
        self.engine.dispose()
        self.own.close()
        for suffix in ("", "-wal", "-shm", "-journal"):
            Path(f"{self.file}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(self.image, self.file)
        self._mark()
        self.own = sqlite3.connect(self.file, timeout=0, isolation_level=None)
        self.own.execute("PRAGMA synchronous = OFF")
        self.schema = self._schema()
        self.files = self._files()

    def _keep(self, kept: Path) -> None:
        """Write the image whole or not at all, and forget older ones."""
        new = kept.with_suffix(f".{os.getpid()}")
        shutil.copyfile(self.image, new)
        new.replace(kept)
        for old in kept.parent.glob("*.image"):
            if old != kept:
                old.unlink(missing_ok=True)


def _remove(folder: Path, process: int) -> None:
    """Remove the folder of a run when its process ends, not when a forked child does."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def open_connections(engine: Engine) -> int:
    """Return how many connections are out of the pool, and not forgotten."""
    pool = engine.pool
    assert isinstance(pool, QueuePool)
    if pool.checkedout():
        gc.collect()
    return pool.checkedout()


def alembic_config() -> "Config":
    """Return the Alembic configuration of the project."""
    from alembic.config import Config  # a tenth of a second, which a run that finds the schema need not take

    return Config(toml_file=ROOT / "pyproject.toml")


def has_migrations() -> bool:
    """Return whether there are migrations."""
    return any(path.name != "__init__.py" for path in (ROOT / "migrations" / "versions").glob("*.py"))


def upgrade(engine: Engine) -> None:
    """Run `alembic upgrade head` on the app's engine, and close its connections.

    :raises UnusableDatabaseError: if it fails.
    """
    from alembic import command

    try:
        command.upgrade(alembic_config(), "head")
    except Exception as error:
        raise UnusableDatabaseError(f"`alembic upgrade head` fails: {type(error).__name__}: {error}") from error
    finally:
        engine.dispose()


def schema_key(*of_database: str) -> str:
    """Return a key of everything that can change what the migrations make, with the versions of the database."""
    migrations = [path for path in sorted((ROOT / "migrations").rglob("*")) if path.is_file()]
    others = (
        "pyproject.toml",
        "app/engines.py",
        *(f"tests/{name}.py" for name in ("database", "servers", "postgresql", "mysql")),
    )
    files = [path for path in migrations if path.suffix != ".pyc"] + [ROOT / name for name in others]
    own = [path for path in migrations if path.suffix == ".py" and path.name != "env.py"]
    if any(re.search(rb"^\s*(from|import) app\b", path.read_bytes(), re.M) for path in own):
        files += sorted((ROOT / "app").rglob("*.py"))
    digest = hashlib.sha256(repr((sqlalchemy.__version__, version("alembic"), of_database)).encode())
    for path in files:
        digest.update(f"\0{path.relative_to(ROOT)}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:32]
