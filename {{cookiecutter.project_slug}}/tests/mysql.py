"""The database of the tests on MySQL and MariaDB: edit only to use another.

Beside it there is a second one, `…_kit`, with what the tests note. A procedure in the first says that the tests have made it.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar, cast

from sqlalchemy import Connection, Engine, event
from sqlalchemy.exc import DBAPIError, OperationalError

from tests.database import UnusableDatabaseError
from tests.servers import Server

TEMPORARY = "Com_create_temporary_table"
CONNECTIONS = "Connections"
COUNTED = (
    TEMPORARY,
    *(
        f"Com_{verb}_{thing}"
        for verb in ("create", "alter", "drop")
        for thing in ("table", "sequence", "event", "function", "procedure")
    ),
    "Com_alter_db",
    *(f"Com_{verb}_{thing}" for verb in ("create", "drop") for thing in ("index", "trigger", "view")),
    "Com_rename_table",
    CONNECTIONS,
)
# Triggers do not see DDL, but the server counts it: that of others too, so this says only that there may have been some.
COUNTERS = f"SHOW GLOBAL STATUS WHERE Variable_name IN {COUNTED}"

OTHERS = (
    ("triggers", "event_object_schema"),  # by `trigger_schema` the server would open the tables of all databases
    ("routines", "routine_schema"),
    ("events", "event_schema"),
    ("views", "table_schema"),
    ("schemata", "schema_name"),
)
"""What `SHOW CREATE TABLE` does not show, and where it is found."""

LOCK_WAIT_TIMEOUT = 1205
COM_QUERY = 3
INSERT = re.compile(r"\s*INSERT\s+INTO\s+`?(\w+)", re.IGNORECASE)
SEQUENCE = "SEQUENCE"
VERSIONED = "SYSTEM VERSIONED"


def is_lock(error: Exception) -> bool:
    """Return whether an error of the driver, or its wrapping, says that a lock was waited for in vain."""
    return bool(getattr(error, "orig", error).args[0] == LOCK_WAIT_TIMEOUT)


def limit_wait(connection: Any, _record: object) -> None:
    """Let a connection of the app wait for the lock of a table for five seconds."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION lock_wait_timeout = 5")


class MySQL(Server):
    """A database in which triggers tell where a row was inserted: those tables are emptied.

    An INSERT that is rolled back takes its note with it, but not the numbers: neither that of the note nor its own.
    """

    driver = "mysql+pymysql"
    package = "pymysql"
    home = "information_schema"
    driver_connection: Any = None
    connections = 0
    alone = with_others = False
    patience: ClassVar = Server.patience | {"read_timeout": 5, "client_flag": 1 << 16}  # MULTI_STATEMENTS

    def connect(self, database: str) -> Connection:
        """Return a connection to a database of the server, which may take its time once it has greeted, but not for a lock."""
        connection = super().connect(database)
        cast("Any", connection.connection.driver_connection)._read_timeout = None
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = 5, innodb_lock_wait_timeout = 5")
        return connection

    def build(self, engine: Engine, cache: Path | None) -> None:
        """Make the database; let no test wait for the lock of a table for a day, as the server would."""
        self.at_work = threading.RLock()
        self.inserted: set[str] = set()
        event.listen(engine, "connect", limit_wait)
        release = self.at_work.release  # by the thread that forks, which is the child's only one
        os.register_at_fork(before=self._finish_and_hold, after_in_parent=release, after_in_child=release)
        connection_class = cast("Any", self.server.dialect.loaded_dbapi).connections.Connection
        connection_class.query = self._finish_first(connection_class.query)
        super().build(engine, cache)

    def _finish_and_hold(self) -> None:
        """Let no thread be at work during a fork: the answers are for the parent, and the child has no such thread."""
        self.at_work.acquire()
        self.finish()

    def _finish_first(self, method: Callable[..., Any]) -> Callable[..., Any]:
        """Return a method of all connections that waits until the tables are empty."""

        @wraps(method)
        def finish_then_query(connection: Any, *args: Any, **kwargs: Any) -> Any:
            if connection is self.driver_connection:  # which is at work
                self._wait()
            else:
                self.finish()
            return method(connection, *args, **kwargs)

        return finish_then_query

    def _note_state(self, cursor: object, statement: str, *more: object) -> None:
        """Note also into which table a row is inserted."""
        super()._note_state(cursor, statement, *more)
        if into := INSERT.match(statement):
            self.inserted.add(into[1])

    def exists(self, name: str) -> bool:
        """Return whether there is a database."""
        return self._ask("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = %s", name)

    def has_tables(self, name: str) -> bool:
        """Return whether there is a database with tables."""
        return self._ask("SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s", name)

    def lock(self, name: str) -> bool:
        """Take a name, unless another run has it."""
        return self._ask("SELECT GET_LOCK(%s, 0)", name)

    def version(self) -> str:
        """Return the version of the server."""
        return str(self.server.exec_driver_sql("SELECT VERSION()").scalar())

    def find_key(self) -> str | None:
        """Return the key that the second database holds, if the sign is in the first, or nothing yet."""
        signs = (
            "SELECT COUNT(*) FROM information_schema.routines"
            " WHERE routine_schema = %s AND routine_name = 'made_by_the_tests'"
        )
        try:
            key = self.server.exec_driver_sql(f"SELECT COALESCE(MAX(value), '') FROM `{self.kit}`.schema_key").scalar()
        except DBAPIError:
            return None
        if self._ask(signs, self.name):
            return str(key)
        return None if self.has_tables(self.name) else ""

    @property
    def kit(self) -> str:
        """The second database."""
        return f"{self.name}_kit"

    def make(self) -> None:
        """Make both databases, the second one first: it tells that an empty one is about to be signed.

        :raises UnusableDatabaseError: if a lock on the first one cannot be ended.
        """
        others = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = %s AND table_name NOT IN {}"
        if self._ask(others.format(("schema_key", "written", "made")), self.kit):
            raise UnusableDatabaseError(
                f"The database {self.kit!r} was not made by the tests: drop it, or name another."
            )
        self.server.exec_driver_sql(f"CREATE DATABASE IF NOT EXISTS `{self.kit}`")
        self.server.exec_driver_sql(f"CREATE TABLE IF NOT EXISTS `{self.kit}`.schema_key (value VARCHAR(64))")
        self.server.exec_driver_sql(f"DELETE FROM `{self.kit}`.schema_key")
        self.disconnect()
        try:
            self.server.exec_driver_sql(f"DROP DATABASE IF EXISTS `{self.name}`")
        except OperationalError as error:
            if not is_lock(error):
                raise
            raise UnusableDatabaseError(
                f"A transaction that cannot be ended from here keeps the database {self.name!r} locked: commit it or roll"
                " it back. `XA RECOVER` lists those that are prepared, `XA ROLLBACK` ends one."
            ) from error
        self.server.exec_driver_sql(f"CREATE DATABASE `{self.name}`")
        self.server.exec_driver_sql(f"CREATE PROCEDURE `{self.name}`.made_by_the_tests() SELECT 1")

    def open(self) -> None:
        """Connect to the second database, in order to restore the first."""
        self.own = self.connect(self.kit).execution_options(no_parameters=True)  # a name may have a % in it
        for setting in (
            "foreign_key_checks = 0",
            "lock_wait_timeout = 1",
            "innodb_lock_wait_timeout = 1",
            "group_concat_max_len = 1000000",
        ):
            self.own.exec_driver_sql(f"SET SESSION {setting}")
        if not self._value("SELECT VERSION() LIKE '%MariaDB%'"):
            self.own.exec_driver_sql("SET SESSION information_schema_stats_expiry = 0")
        # What is asked after every test takes no detour.
        self.driver_connection = self.own.connection.driver_connection
        self.driver_error: type[Exception] = self.own.dialect.loaded_dbapi.Error
        self.statements: dict[str, str] = {}
        self.inserts = 0
        self.kept = self.numbers = ""  # no question yet
        self.watched: set[str] = set()

    def note(self, key: str) -> None:
        """Note what the migrations have made, and last the key."""
        for statement in (
            "DROP TABLE IF EXISTS written, made",
            "CREATE TABLE written (id BIGINT AUTO_INCREMENT PRIMARY KEY, name VARCHAR(64) NOT NULL)",
            "CREATE TABLE made (name VARCHAR(64) PRIMARY KEY, definition MEDIUMTEXT NOT NULL, content BIGINT, next BIGINT)",
        ):
            self.own.exec_driver_sql(statement)
        tables = self._tables()
        definitions = self._definitions(tables)
        filled = self._filled(name for name, kind in tables.items() if kind != SEQUENCE)
        for number, (table, kind) in enumerate(tables.items()):
            # What has a history cannot be truncated; its checksum tells of each write.
            content = self._content(table) if table in filled or kind == VERSIONED else None
            made = (table, definitions[table], content, self._next(table, kind, content))
            self.own.exec_driver_sql("INSERT INTO made VALUES (%s, %s, %s, %s)", made)
            if content is None and kind != SEQUENCE:
                self.own.exec_driver_sql(
                    f"CREATE TRIGGER `{self.name}`.kit_{number} BEFORE INSERT ON {self._quoted(table)}"
                    f" FOR EACH ROW INSERT INTO `{self.kit}`.written (name) VALUES ({self._literal(table)})"
                )
        self.own.exec_driver_sql("INSERT INTO made VALUES ('', %s, NULL, NULL)", (self._others(),))
        self.own.exec_driver_sql("INSERT INTO schema_key VALUES (%s)", (key,))

    def put_back(self) -> list[str]:
        """Empty what was written, and undo DDL; end what holds a lock on it. Threads that a test has left wait meanwhile."""
        with self.at_work:
            try:
                self._restore()
            except (self.driver_error, DBAPIError) as error:
                found = ["a transaction"] if is_lock(error) else []
                self.driver_connection = None
                if not self.own.closed:
                    self.own.invalidate()  # it may have ended, or stand anywhere
                    self.own.close()
                self.hold()
                if found:
                    self.disconnect()
                self.open()
                try:
                    self._restore()
                except (self.driver_error, DBAPIError):
                    self.driver_connection = None
                    self.rebuild()
                return found
            return []

    def begin(self) -> None:
        """Let a test begin before the tables are empty, unless other processes are connected, or have been since the last one.

        `finish` does not stop those, and a transaction that began before that may not read the tables after it.
        """
        super().begin()
        if not self.alone:
            self.finish()

    def finish(self) -> None:
        """Wait until the tables are empty; if the connection has died, begin again with another."""
        with self.at_work:
            try:
                self._wait()
            except self.driver_error:
                self.statements = {}  # all is looked at then
                self.put_back()
                self._wait()

    def _wait(self) -> None:
        """Wait for the answers to what `_fetch_and_empty` has sent."""
        while self.driver_connection and self.driver_connection._result and self.driver_connection._result.has_next:
            self._read()

    def _restore(self) -> None:
        """Empty what was written, and undo DDL, if some was sent."""
        known, self.inserted = self.inserted & self.watched, set()
        questions = (COUNTERS, self._written(), self.kept, self.numbers)
        counted, written, contents, numbers = self._fetch_and_empty(questions, known)
        statements, connections = self._count(counted)
        self.alone = connections == self.connections and not self.with_others
        if not self.alone:
            self.connections = connections
            self._look_for_others()
        had_ddl = statements != self.statements
        if statements.get(TEMPORARY) != self.statements.get(TEMPORARY):
            self.engine.dispose()  # temporary tables end with their connection
        if had_ddl:
            if not self._undo_ddl():
                self.rebuild()
                return
            contents, numbers = self._fetch_each(self.kept, self.numbers)
        if [content for _, content in contents] != list(self.contents.values()):
            self.rebuild()
            return
        if had_ddl:  # nobody knows what the notes are worth: each table is looked at, and they begin anew
            tables = self._numbered() | self._filled(self.watched)
            self._fetch("TRUNCATE TABLE written")
            self.inserts = 0
        else:
            tables = self._named(*written[0]) - known
        if tables:
            self._fetch_and_empty((), tables)
        if (tables | known) & self.next.keys():
            numbers = self._fetch(self.numbers)
        if self._restart(numbers) or had_ddl:
            self.statements = self._count(self._fetch(COUNTERS))[0]

    def _count(self, counted: Any) -> tuple[dict[str, str], int]:
        """Return how often the server has been sent DDL, by its kind, and how many connections it has had."""
        counters = dict(counted)
        return counters, int(counters.pop(CONNECTIONS))

    def _look_for_others(self) -> None:
        """Lock all tables for a moment, if others than the app are connected: it fails if one of them is in use.

        To look for open transactions takes the right PROCESS, and they show a tenth of a second late.
        """
        clients = f"SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{self.name}'"
        self.with_others = self._fetch(clients)[0][0] > self._idle()
        tables = self._tables() if self.with_others else {}
        if tables:
            self._fetch_each(*self._locks(map(self._quoted, tables)), "UNLOCK TABLES")

    def _written(self) -> str:
        """Return a query for the number of the last row that was inserted, how many there were since the last time, and where."""
        return f"""SELECT (SELECT auto_increment - 1 FROM information_schema.tables
            WHERE table_schema = '{self.kit}' AND table_name = 'written'), COUNT(*), GROUP_CONCAT(DISTINCT name SEPARATOR 0x00)
            FROM written WHERE id > {self.inserts}"""

    def _named(self, inserts: int, noted: int, names: str | None) -> set[str]:
        """Return the tables into which something was inserted, also what was rolled back."""
        tables = set(names.split("\0")) if names else set()
        if inserts - self.inserts != noted:
            tables |= self._numbered()
        self.inserts = inserts
        return tables & self.watched

    def _fetch_and_empty(self, questions: Iterable[str], tables: Iterable[str]) -> list[Any]:
        """Send questions, lock tables, and begin to empty them, which restarts their ids too; return the answers.

        The server needs a millisecond or two for each table, in which pytest reports the test and begins the next; nobody else
        can be in the way then. `finish` waits for it.
        """
        names = [self._quoted(table) for table in sorted(tables)]
        locks = self._locks(names) if names else ()
        truncations = (*(f"TRUNCATE TABLE {name}" for name in names), "UNLOCK TABLES") if names else ()
        self._wait()
        self._send(*questions, *locks, *truncations)
        answers = [question and self._read() for question in questions]
        for _ in locks:
            self._read()
        return answers

    def _locks(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return what locks tables; after a second it fails if somebody uses one of them.

        A transaction that was prepared and left holds only what InnoDB locks, and InnoDB is asked only without autocommit.
        """
        locks = ", ".join(f"{name} WRITE" for name in names)
        return "SET autocommit = 0", f"LOCK TABLES {locks}", "SET autocommit = 1"

    def _restart(self, numbers: Any) -> bool:
        """Let sequences and ids go on where the migrations left them; return whether any had to."""
        moved = [name for name, number in numbers if number != self.next[name]]
        for name in moved:
            what = (SEQUENCE, "RESTART WITH") if name in self.sequences else ("TABLE", "AUTO_INCREMENT =")
            self._fetch(f"ALTER {what[0]} {self._quoted(name)} {what[1]} {self.next[name]}")
        return bool(moved)

    def _numbered(self) -> set[str]:
        """Return the tables that have given an id, also to a row that is gone."""
        query = f"SELECT table_name FROM information_schema.tables WHERE table_schema = '{self.name}' AND auto_increment > 1"
        return {name for (name,) in self._fetch(query)} & self.watched

    def _fetch(self, statement: str) -> Any:
        """Send a statement and return its rows."""
        return self._fetch_each(statement)[0]

    def _fetch_each(self, *statements: str) -> list[Any]:
        """Send statements at once, and return the rows of each; an empty one is not sent."""
        return self._fetch_and_empty(statements, ())

    def _send(self, *statements: str) -> None:
        """Send statements at once; `_read` is to be called for each."""
        if not self.driver_connection:
            raise self.driver_error(0, "There is no connection.")
        if any(statements):
            self.driver_connection._execute_command(COM_QUERY, "; ".join(filter(None, statements)))

    def _read(self) -> Any:
        """Wait for the answer to the next statement, and return its rows."""
        self.driver_connection._read_query_result()
        return self.driver_connection._result.rows

    def _undo_ddl(self) -> bool:
        """Drop the tables that the migrations have not made; return whether the others are as they were."""
        rows = self._rows("SELECT * FROM made")
        made = {name: definition for name, definition, _, _ in rows}
        self.contents = {name: content for name, _, content, _ in rows if content is not None}
        self.next = {name: number for name, _, _, number in rows if number is not None}
        present = self._tables()
        self.sequences = {name for name, kind in present.items() if kind == SEQUENCE}
        self.watched = made.keys() - self.contents.keys() - self.sequences - {""}
        self.kept = f"CHECKSUM TABLE {', '.join(map(self._quoted, self.contents))}" if self.contents else ""
        self.numbers = " UNION ALL ".join(self._number(name, name in self.sequences) for name in self.next)
        for name in present.keys() - made.keys():
            self._fetch(f"DROP {SEQUENCE if name in self.sequences else 'TABLE'} {self._quoted(name)}")
        kept = {name: kind for name, kind in present.items() if name in made}
        return made == {"": self._others(), **self._definitions(kept)}

    def _tables(self) -> dict[str, str]:
        """Return the names of the tables, and of MariaDB's sequences, with their kinds."""
        query = (
            "SELECT table_name, table_type FROM information_schema.tables"
            f" WHERE table_schema = '{self.name}' AND table_type IN ('BASE TABLE', '{VERSIONED}', '{SEQUENCE}')"
        )
        return dict(map(tuple, self._rows(query)))

    def _next(self, name: str, kind: str, content: int | None) -> int | None:
        """Return the next number of a sequence, or of a table that does not begin with 1 when it is restored."""
        if kind == SEQUENCE:  # what it keeps in stock is given back
            number = self._value(f"SELECT NEXT VALUE FOR {self._quoted(name)}")
            self._fetch(f"ALTER SEQUENCE {self._quoted(name)} RESTART WITH {number}")
        found: int | None = self._rows(self._number(name, kind == SEQUENCE))[0][1]
        return None if found == 1 and kind != SEQUENCE and content is None else found

    def _number(self, name: str, is_sequence: bool) -> str:
        """Return a query for the next number of a table or a sequence."""
        if is_sequence:
            return f"SELECT {self._literal(name)}, next_not_cached_value FROM {self._quoted(name)}"
        table = f"table_schema = '{self.name}' AND table_name = {self._literal(name)}"
        return f"SELECT table_name, auto_increment FROM information_schema.tables WHERE {table}"

    def _definitions(self, tables: dict[str, str]) -> dict[str, str]:
        """Return what makes each table or sequence, without the next id."""
        questions = (
            f"SHOW CREATE {SEQUENCE if kind == SEQUENCE else 'TABLE'} {self._quoted(name)}"
            for name, kind in tables.items()
        )
        shown = self._fetch_each(*questions)
        return {name: re.sub(r" AUTO_INCREMENT=\d+", "", rows[0][1]) for name, rows in zip(tables, shown, strict=True)}

    def _others(self) -> str:
        """Return the triggers, functions, events and views, and how the database is set."""
        return repr(
            [
                self._rows(f"SELECT * FROM information_schema.{kind} WHERE {column} = '{self.name}'")
                for kind, column in OTHERS
            ]
        )

    def _filled(self, tables: Iterable[str]) -> set[str]:
        """Return the tables that have rows."""
        names = list(tables)
        found = self._fetch_each(*(f"SELECT EXISTS (SELECT 1 FROM {self._quoted(name)})" for name in names))
        return {name for name, rows in zip(names, found, strict=True) if rows[0][0]}

    def _content(self, table: str) -> int | None:
        """Return a checksum of the rows of a table."""
        checksum: int | None = self.own.exec_driver_sql(f"CHECKSUM TABLE {self._quoted(table)}").one()[1]
        return checksum

    def disconnect(self) -> None:
        """End whatever is connected to the database, but not what restores it."""
        super().disconnect()
        query = "SELECT id FROM information_schema.processlist WHERE db = %s AND id <> CONNECTION_ID()"
        for number in self.server.exec_driver_sql(query, (self.name,)).scalars().all():
            try:
                self.server.exec_driver_sql(f"KILL {number}")
            except OperationalError:
                continue  # it has ended by itself

    def _quoted(self, table: str) -> str:
        """Return the name of a table as statements need it."""
        return f"`{self.name}`.`{table.replace('`', '``')}`"

    def _literal(self, table: str) -> str:
        """Return the name of a table as a value in a statement."""
        return str(self.driver_connection.escape(table))

    def _value(self, query: str) -> Any:
        """Return the only value of a query."""
        return self.own.exec_driver_sql(query).scalar()

    def _rows(self, query: str) -> list[Any]:
        """Return the rows of a query."""
        return list(self.own.exec_driver_sql(query).all())

    def _ask(self, query: str, name: str) -> bool:
        """Return the answer of the server to a question about a name."""
        return bool(self.server.exec_driver_sql(query, (name,)).scalar())
