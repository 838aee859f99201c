"""The databases of the tests on a server: edit only to use another.

They are named after that in `TEST_DATABASE_URL`, which itself is never touched: `shop_test` stands for `shop_test_main`,
for `shop_test_gw0` and `shop_test_gw1` with `pytest -n 2`, and for `shop_test_main_2` while another run has the first.
"""

import re
from itertools import count
from pathlib import Path
from typing import Any, ClassVar, cast

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from tests.database import Database, UnusableDatabaseError, schema_key, upgrade


class Server(Database):
    """A database on a server: emptied where something was written, made anew after DDL."""

    driver: str
    package: str
    """What installs the driver."""
    home: str
    """What one is connected to in order to make databases."""
    patience: ClassVar = {"connect_timeout": 5}
    """How long the driver waits for the server, in seconds."""

    def __init__(self, url: URL, worker: str) -> None:
        """Take the first name that no other run has.

        :raises UnusableDatabaseError: if the server cannot be used, or the name is not one of tests.
        """
        self.shown = f"TEST_DATABASE_URL {url.render_as_string()!r}"
        if not re.fullmatch(r"[A-Za-z0-9_-]*", url.database or ""):
            raise UnusableDatabaseError(f"{self.shown}: write the name of the database in letters, digits, _ and -.")
        if "test" not in (url.database or "").lower():
            raise UnusableDatabaseError(
                f"{self.shown} does not look like a database of tests: put `test` in its name."
                " The tests make databases of their own, named after it."
            )
        self.server_url = url.set(drivername=self.driver)
        # The lock belongs to this connection, and ends with the process, however that ends.
        self.server = self.connect(self.home)
        if self.has_tables(str(url.database)):
            raise UnusableDatabaseError(
                f"{self.shown} names a database with tables in it. The tests make their own, and leave it alone:"
                " name one that does not exist, or is empty."
            )
        stem = f"{str(url.database)[:40]}_{worker}"
        names = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        self.name = next(name for name in names if self.lock(name))
        super().__init__(url.set(database=self.name).render_as_string(hide_password=False))

    def connect(self, database: str) -> Connection:
        """Return a connection to a database of the server.

        :raises UnusableDatabaseError: in one line.
        """
        url = self.server_url.set(database=database)
        options = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool, "connect_args": self.patience}
        try:
            return create_engine(url, **options).connect()
        except ModuleNotFoundError as error:
            raise UnusableDatabaseError(
                f"{self.shown} needs the driver {self.package}, which is not installed:"
                " add it to the dependencies in pyproject.toml and run `make setup`."
            ) from error
        except (DBAPIError, TypeError, RuntimeError) as error:  # some drivers tell so what they do not understand
            reason = str(getattr(error, "orig", error)).partition("\n")[0]
            raise UnusableDatabaseError(f"{self.shown} cannot be used: {reason}") from error

    def build(self, engine: Engine, cache: Path | None) -> None:
        """Make the database, or take what an earlier run has left of it."""
        self.use(engine)
        self.key = schema_key(self.version(), str(getattr(engine.dialect.dbapi, "__version__", "")))
        found = self.find_key()
        if found == self.key:
            self.open()
            self.restore()
        else:
            self.rebuild()

    def rebuild(self) -> None:
        """Make the database anew.

        :raises UnusableDatabaseError: if one of this name was not made by the tests, or the server refuses.
        """
        self.engine.dispose()
        self.hold()
        if self.find_key() is None and self.exists(self.name):
            raise UnusableDatabaseError(
                f"The database {self.name!r} was not made by the tests: drop it, or name another in TEST_DATABASE_URL."
            )
        try:
            self.make()
            upgrade(self.engine)
            self.open()
            self.note(self.key)
        except DBAPIError as error:
            raise UnusableDatabaseError(f"{self.shown}: the tests cannot make their database: {error.orig}") from error

    def hold(self) -> None:
        """Take the name again, if the connection that held it has ended.

        :raises UnusableDatabaseError: if another run has taken it, or the server does not answer.
        """
        try:
            self.server.exec_driver_sql("SELECT 1")
        except SQLAlchemyError:
            self.server = self.connect(self.home)
            if not self.lock(self.name):
                self.server.close()
                raise UnusableDatabaseError(
                    f"The connection to the server was lost, and another run has taken {self.name!r}: begin again."
                ) from None

    def disconnect(self) -> None:
        """End the connections that use the database, also those that the app has not given back."""
        super().disconnect()
        self.hold()

    def _idle(self) -> int:
        """Return how many connections the pool of the app has, none of them in use; an entry may be without one."""
        return sum(entry.dbapi_connection is not None for entry in cast("Any", self.engine.pool)._pool.queue)

    def exists(self, name: str) -> bool:
        """Return whether there is a database."""
        raise NotImplementedError

    def has_tables(self, name: str) -> bool:
        """Return whether there is a database with tables."""
        raise NotImplementedError

    def lock(self, name: str) -> bool:
        """Take a name, unless another run has it."""
        raise NotImplementedError

    def version(self) -> str:
        """Return the version of the server."""
        raise NotImplementedError

    def find_key(self) -> str | None:
        """Return the key of the schema, "" if it is not finished; None if the tests have not made the database."""
        raise NotImplementedError

    def make(self) -> None:
        """Make the database empty, with a sign that the tests have made it."""
        raise NotImplementedError

    def open(self) -> None:
        """Connect to the database, in order to restore it."""
        raise NotImplementedError

    def note(self, key: str) -> None:
        """Note what the migrations have made, and last the key."""
        raise NotImplementedError
