"""The database of the tests on PostgreSQL, 15 or later: edit only to use another."""

import re
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any
from uuid import uuid4

from sqlalchemy.exc import DBAPIError

from tests.servers import Server

MARK = "made by the tests, which may drop it"

USER_SCHEMAS = r"n.nspname !~ '^(pg_|information_schema$|test_kit$)'"

CATALOGS = {
    "pg_attrdef": "oid",
    "pg_attribute": "attrelid",
    "pg_class": "oid",
    "pg_constraint": "oid",
    "pg_enum": "oid",
    "pg_namespace": "nspname !~ '^pg_' AND oid",
    "pg_policy": "oid",
    "pg_proc": "oid",
    "pg_rewrite": "oid",
    "pg_trigger": "oid",
    "pg_type": "oid",
}
# DDL writes rows of these, and the numbers of transactions only grow. 16384: the first oid of a user.
SIGNATURE = "SELECT concat_ws(' ', {})".format(
    ", ".join(
        f"(SELECT count(*) || ':' || sum(xmin::text::bigint) FROM {catalog} WHERE {oid} >= 16384)"
        for catalog, oid in CATALOGS.items()
    )
)

# How the database is set, and who may use it: no event trigger sees that.
SETTINGS = """SELECT concat_ws(' ', xmin, (SELECT count(*) || ':' || sum(xmin::text::bigint) FROM pg_db_role_setting
    WHERE setdatabase = d.oid)) FROM pg_database d WHERE datname = current_database()"""

# What other commands change may not be in the signature: comments, for example.
OF_TABLES = (
    "CREATE TABLE",
    "CREATE TABLE AS",
    "SELECT INTO",
    "ALTER TABLE",
    "DROP TABLE",
    "CREATE INDEX",
    "DROP INDEX",
    "CREATE SEQUENCE",
)

# What moves a sequence, other than an INSERT.
MOVES_SEQUENCE = re.compile(r"\b(nextval|setval|RESTART)\b", re.IGNORECASE)

# The tables whose defaults move a sequence; NULL if anything else may: a rule, an INSERT into a partition, a function.
USED_BY = f"""
    SELECT CASE WHEN bool_and(of_table IS NOT NULL) THEN array_agg(of_table) END FROM (
        SELECT adrelid AS of_table
            FROM pg_depend LEFT JOIN pg_attrdef a ON classid = 'pg_attrdef'::regclass AND objid = a.oid
            WHERE refclassid = 'pg_class'::regclass AND refobjid = seqrelid AND deptype = 'n'
        UNION ALL
        SELECT CASE WHEN NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = refobjid) THEN refobjid END
            FROM pg_depend
            WHERE classid = 'pg_class'::regclass AND objid = seqrelid AND refclassid = classid AND deptype = 'i'
    ) defaults WHERE NOT EXISTS (
        SELECT FROM pg_proc JOIN pg_namespace n ON n.oid = pronamespace JOIN pg_language l ON l.oid = prolang
            WHERE lanname NOT IN ('c', 'internal') AND {USER_SCHEMAS}
    )
"""

# `content`: a checksum of what the migrations have written; NULL for a table that they left empty. `written.id` counts also
# what is rolled back. ALWAYS: also where the triggers of the app are off.
NOTES = f"""
CREATE SCHEMA test_kit;
CREATE TABLE test_kit.signature (value text, settings text);
CREATE TABLE test_kit.ddl (command text);
CREATE TABLE test_kit.written (id bigint GENERATED ALWAYS AS IDENTITY, oid oid);
CREATE TABLE test_kit.sequences (oid oid, value bigint, is_called boolean, used_by oid[]);
CREATE TABLE test_kit.objects AS SELECT oid FROM pg_largeobject_metadata;
CREATE TABLE test_kit.tables AS
    SELECT c.oid, NULL AS content, NULL::oid AS root FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE relkind IN ('r', 'p') AND {USER_SCHEMAS};
ALTER TABLE test_kit.ddl REPLICA IDENTITY FULL;
ALTER TABLE test_kit.tables REPLICA IDENTITY FULL;
ALTER TABLE test_kit.written REPLICA IDENTITY FULL;
CREATE FUNCTION test_kit.note_ddl() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO test_kit.ddl VALUES (tg_tag); END $$;
CREATE FUNCTION test_kit.note_write() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
    $$ BEGIN INSERT INTO test_kit.written (oid) VALUES (tg_relid); RETURN NULL; END $$;
CREATE FUNCTION test_kit.content(name text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE content text;
BEGIN
    EXECUTE 'SELECT md5(string_agg((t.*)::text, '' '' ORDER BY (t.*)::text)) FROM ' || name || ' t' INTO content;
    RETURN content;
EXCEPTION WHEN insufficient_privilege THEN  -- a policy hides rows: never the same
    RETURN gen_random_uuid();
END $$;
UPDATE test_kit.tables SET content = test_kit.content(oid::regclass::text);
UPDATE test_kit.tables part SET root = (SELECT whole.oid FROM pg_partition_ancestors(part.oid) WITH ORDINALITY a (oid, step)
    JOIN test_kit.tables whole ON whole.oid = a.oid WHERE whole.content IS NULL ORDER BY step DESC LIMIT 1);
DO $$
DECLARE
    made record;
    events text;
BEGIN
    FOR made IN SELECT oid::regclass AS name, content FROM test_kit.tables LOOP
        events := CASE WHEN made.content IS NULL THEN 'INSERT' ELSE 'INSERT OR UPDATE OR DELETE OR TRUNCATE' END;
        EXECUTE 'CREATE TRIGGER test_kit BEFORE ' || events || ' ON ' || made.name
            || ' FOR EACH STATEMENT EXECUTE FUNCTION test_kit.note_write()';
        EXECUTE 'ALTER TABLE ' || made.name || ' ENABLE ALWAYS TRIGGER test_kit';
    END LOOP;
    FOR made IN SELECT seqrelid AS oid, ({USED_BY}) AS used_by FROM pg_sequence
            WHERE seqrelid <> 'test_kit.written_id_seq'::regclass LOOP
        EXECUTE 'INSERT INTO test_kit.sequences SELECT $1, last_value, is_called, $2 FROM ' || made.oid::regclass
            USING made.oid, made.used_by;
    END LOOP;
END $$;
"""

CLIENTS = """FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"""
OPEN_TRANSACTIONS = f"SELECT pid, left(query, 200) AS query {CLIENTS} AND xact_start IS NOT NULL"

# In one question to the server, which looks at no table that nobody has written, and at no sequence that only such a table
# moves. All sequences may have moved if the question is a `thorough` one, or there are, or were, more clients than those
# `of_app`. `rebuild`: rows are left that cannot be deleted, or those of the migrations have changed. One statement deletes from
# all tables, for foreign keys are checked at its end; what a trigger of the app's own has written meanwhile goes in the next
# turn. A row may have been moved to another partition: all of them are emptied.
RESTORE = """
CREATE FUNCTION test_kit.restore(thorough boolean, of_app integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    name text;
    has_rows boolean;
    deletions text[];
    noted oid[];
    clients bigint;
    transactions bigint;
    sessions text := pg_stat_get_db_sessions(oid) FROM pg_database WHERE datname = current_database();
BEGIN
    SELECT count(*), count(xact_start) INTO clients, transactions {clients};
    IF transactions > 0 THEN RETURN 'open transactions'; END IF;
    IF EXISTS (SELECT FROM test_kit.ddl) THEN RETURN 'ddl'; END IF;
    LOCK TABLE test_kit.written IN SHARE MODE;
    FOR attempt IN 1..20 LOOP
        deletions := ARRAY[]::text[];
        FOR name IN SELECT DISTINCT coalesce(root, oid)::regclass FROM test_kit.tables
                WHERE content IS NULL AND oid IN (SELECT oid FROM test_kit.written) LOOP
            EXECUTE 'SELECT EXISTS (SELECT FROM ' || name || ')' INTO has_rows;
            CONTINUE WHEN NOT has_rows;
            deletions := deletions || ('d' || cardinality(deletions) || ' AS (DELETE FROM ' || name || ')');
        END LOOP;
        EXIT WHEN cardinality(deletions) = 0;
        EXECUTE 'WITH ' || array_to_string(deletions, ', ') || ' SELECT';
    END LOOP;
    IF cardinality(deletions) > 0 OR EXISTS (
        WITH filled AS MATERIALIZED (SELECT oid::regclass::text AS of_table, content FROM test_kit.tables
            WHERE content IS NOT NULL AND oid IN (SELECT oid FROM test_kit.written))
        SELECT FROM filled WHERE content IS DISTINCT FROM test_kit.content(of_table)
    ) OR NOT EXISTS (SELECT FROM test_kit.signature WHERE settings = ({settings})) THEN RETURN 'rebuild'; END IF;
    -- Who was rolled back, or has come from elsewhere, may have moved any sequence.
    SELECT array_agg(oid), thorough OR clients > of_app OR sessions IS DISTINCT FROM current_setting('test_kit.sessions', true)
            OR count(*) <> (SELECT last_value - 1 + is_called::int FROM test_kit.written_id_seq)
        FROM test_kit.written INTO noted, thorough;
    -- One that has given nothing does not tell to what it was set: it is cheaper to set it than to look.
    PERFORM setval(oid::regclass, value, is_called)
        FROM (SELECT * FROM test_kit.sequences WHERE thorough OR used_by IS NULL OR used_by && noted OFFSET 0) may_have_moved
        WHERE NOT is_called OR pg_sequence_last_value(oid) IS DISTINCT FROM value;
    PERFORM lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid NOT IN (SELECT oid FROM test_kit.objects);
    DELETE FROM test_kit.written;
    PERFORM setval('test_kit.written_id_seq', 1, false), set_config('test_kit.sessions', sessions, false);
    RETURN 'restored';
END $$
"""


@lru_cache
def moves_sequence(statement: str) -> bool:
    """Return whether a statement itself may move a sequence."""
    return MOVES_SEQUENCE.search(statement) is not None


class PostgreSQL(Server):
    """A database whose own functions note where rows are inserted and whether there was DDL, and empty its tables."""

    driver = "postgresql+psycopg"
    package = "psycopg[binary]"
    home = "postgres"
    thorough = True

    def exists(self, name: str) -> bool:
        """Return whether there is a database."""
        return self._ask("SELECT EXISTS (SELECT FROM pg_database WHERE datname = %s)", name)

    def has_tables(self, name: str) -> bool:
        """Return whether there is a database with tables."""
        if not self.exists(name):
            return False
        query = (
            f"SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE {USER_SCHEMAS})"
        )
        with self.connect(name) as connection:
            return bool(connection.exec_driver_sql(query).scalar())

    def lock(self, name: str) -> bool:
        """Take a name, unless another run has it."""
        return self._ask("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", name)

    def version(self) -> str:
        """Return the version of the server."""
        return str(self.server.exec_driver_sql("SELECT version()").scalar())

    def find_key(self) -> str | None:
        """Return the key in the comment on the database."""
        query = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"
        comment = self.server.exec_driver_sql(query, (self.name,)).scalar() or ""
        return comment.removeprefix(MARK).strip() if comment.startswith(MARK) else None

    def make(self) -> None:
        """Make the database under another name: who sees it under its own sees the comment too."""
        new = f"{self.name}_{uuid4().hex[:8]}"
        for statement in (
            f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)',
            f'CREATE DATABASE "{new}"',
            f"COMMENT ON DATABASE \"{new}\" IS '{MARK}'",
            f'ALTER DATABASE "{new}" RENAME TO "{self.name}"',
            # What the tests write need not survive a power cut.
            f'ALTER DATABASE "{self.name}" SET synchronous_commit = off',
        ):
            self.server.exec_driver_sql(statement)

    def open(self) -> None:
        """Connect to the database, in order to restore it."""
        self.own = self.connect(self.name)
        self.own.exec_driver_sql("SET lock_timeout = '2s'")
        self.own.exec_driver_sql("SET client_min_messages = error")
        # What is asked after every test takes no detour.
        self.driver_connection: Any = self.own.connection.driver_connection
        self.own_pid: int = self.own.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        self.driver_error: type[Exception] = self.own.dialect.loaded_dbapi.Error
        with suppress(DBAPIError):  # a superuser need not mind triggers and foreign keys
            self.own.exec_driver_sql("SET session_replication_role = replica")
        # Rows that a policy hides are an error then, not overlooked.
        self.own.exec_driver_sql("SET row_security = off")
        self.has_event_trigger = self._find("SELECT FROM pg_event_trigger WHERE evtname = 'test_kit'")
        self.caches_numbers = self._find("SELECT FROM pg_sequence WHERE seqcache > 1")

    def note(self, key: str) -> None:
        """Note what the migrations have made, and last the key."""
        self.own.exec_driver_sql(NOTES)
        self.own.exec_driver_sql(RESTORE.format(clients=CLIENTS, settings=SETTINGS))
        try:
            self.own.exec_driver_sql(
                "CREATE EVENT TRIGGER test_kit ON ddl_command_end EXECUTE FUNCTION test_kit.note_ddl();"
                "ALTER EVENT TRIGGER test_kit ENABLE ALWAYS"
            )
            self.has_event_trigger = True
        except DBAPIError:  # only a superuser may: the signature is then compared after every test
            self.has_event_trigger = False
        self.own.exec_driver_sql(f"INSERT INTO test_kit.signature SELECT ({SIGNATURE}), ({SETTINGS})")
        self.server.exec_driver_sql(f"COMMENT ON DATABASE \"{self.name}\" IS '{MARK} {key}'")

    def reconnect(self) -> None:
        """Let the app begin with new connections; nobody knows what the old ones were told."""
        super().reconnect()
        self.thorough = True

    def _note_state(self, cursor: object, statement: str, *more: object) -> None:
        """Note also who moves a sequence."""
        super()._note_state(cursor, statement, *more)
        self.thorough = self.thorough or moves_sequence(statement)

    def disconnect(self) -> None:
        """End the connections that use the database, also those that the app has not given back."""
        super().disconnect()
        query = """SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE datname = %s AND pid <> %s
            AND usename = current_user AND backend_type = 'client backend'"""
        self.server.exec_driver_sql(query, (self.name, self.own_pid))

    def put_back(self) -> list[str]:
        """Empty what was written, and undo DDL."""
        if self.caches_numbers:  # the connections of the app have them
            self.reconnect()
        state, found = self._restore(), []
        try:
            if state == "open transactions":
                found = self._end_transactions()
                state = self._restore()
            if state == "ddl" or (state == "restored" and not self.has_event_trigger and not self._is_as_made()):
                state = self._undo_ddl()
        except DBAPIError:  # this connection was ended a moment ago
            state = "rebuild"
        if state != "restored":
            self.rebuild()
        return found

    def _restore(self) -> str:
        """Empty what was written, if nothing stands in the way; return what does."""
        try:
            restored = self.driver_connection.execute(f"SELECT test_kit.restore({self.thorough}, {self._idle()})")
            state: str = restored.fetchone()[0]
        except self.driver_error:  # a table is gone, or this connection
            return "rebuild"
        self.thorough = state != "restored"
        return state

    def _end_transactions(self) -> list[str]:
        """End the connections with open transactions, and return what these have done last."""
        self.engine.dispose()
        time.sleep(0.05)  # a connection that was closed a moment ago ends a moment later
        found = self.own.exec_driver_sql(OPEN_TRANSACTIONS).all()
        for pid, _ in found:
            self.own.exec_driver_sql(f"SELECT pg_terminate_backend({pid}, 2000)")
        return [f"a transaction ({query})" for _, query in found]

    def _undo_ddl(self) -> str:
        """Drop the tables that the migrations have not made; return whether that is all."""
        self.engine.dispose()  # temporary tables end with their connection, or a moment later
        end = time.monotonic() + 1
        ending = f"SELECT FROM pg_class WHERE relpersistence = 't' OR EXISTS ({OPEN_TRANSACTIONS})"
        while self._find(ending) and time.monotonic() < end:
            time.sleep(0.01)
        query = f"""SELECT string_agg(c.oid::regclass::text, ', ') FROM pg_class c
            JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE relkind IN ('r', 'p') AND {USER_SCHEMAS} AND c.oid NOT IN (SELECT oid FROM test_kit.tables)"""
        tables = self.own.exec_driver_sql(query).scalar()
        if tables:
            self.own.exec_driver_sql(f"DROP TABLE {tables} CASCADE")
        if self._find(f"SELECT FROM test_kit.ddl WHERE command NOT IN {OF_TABLES}") or not self._is_as_made():
            return "rebuild"
        self.own.exec_driver_sql("DELETE FROM test_kit.ddl")
        return self._restore()

    def _is_as_made(self) -> bool:
        """Return whether the schema is that which the migrations made."""
        return self._find(f"SELECT FROM test_kit.signature WHERE value = ({SIGNATURE})")

    def _ask(self, query: str, name: str) -> bool:
        """Return the answer of the server to a question about a name."""
        return bool(self.server.exec_driver_sql(query, (name,)).scalar())

    def _find(self, query: str) -> bool:
        """Return whether a query finds a row in the database."""
        return bool(self.own.exec_driver_sql(f"SELECT EXISTS ({query})").scalar())
