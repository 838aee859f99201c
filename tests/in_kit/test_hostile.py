"""Tests that leave the database in every state; after each one, another looks whether it is as the migrations made it."""

import threading
from contextlib import suppress
from pathlib import Path

import pytest
from app.db import engine, session, session_factory
from app.models import User
from app.transactions import on_commit, transaction
from sqlalchemy import NullPool, create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError

TABLES = ["alembic_version", "children", "ones", "parents", "roles", "twos", "unnumbered", "users"]
if engine.name == "postgresql":
    TABLES += [
        "guarded",
        "pages",
        "pages_1",
        "pages_2",
        "pages_3",
        "pages_4",
        "pages_more",
        "parts",
        "parts_1",
        "parts_2",
    ]
if engine.name == "mariadb":
    TABLES += ["histories", "prices"]
if engine.name != "sqlite":
    TABLES += ["it's, 50% `odd`"]
FILLED = {
    "alembic_version": [("0002",)],
    "pages": [(1, "start")],
    "pages_1": [(1, "start")],
    "prices": [(1, "low")],
    "roles": [(1, "reader"), (2, "writer")],
}
MYSQL = engine.name in ("mysql", "mariadb")
MARK = "`" if MYSQL else '"'
NEXT = "SELECT NEXT VALUE FOR order_numbers" if MYSQL else "SELECT nextval('order_numbers')"


ELSEWHERE = create_engine(engine.url)  # keeps its connection, as a module of tests may do


def send(*statements: str) -> None:
    """Commit statements on a connection that is not the app's."""
    with create_engine(engine.url, poolclass=NullPool).begin() as connection:
        for statement in statements:
            connection.execute(text(statement))


def quoted(name: str) -> str:
    """Return the name of a table as statements need it."""
    return MARK + name.replace(MARK, MARK * 2) + MARK


def leave_rows() -> None:
    User(name="Ada", email="ada@example.com").save()
    session.commit()


def leave_rows_of_a_thread() -> None:
    thread = threading.Thread(target=lambda: send("INSERT INTO parents (name) VALUES ('x')"))
    thread.start()
    thread.join()


def leave_a_family() -> None:
    send("INSERT INTO parents (id, name) VALUES (7, 'x')", "INSERT INTO children (parent_id) VALUES (7)")


def leave_another_family() -> None:
    send("INSERT INTO ones (id) VALUES (1)", "INSERT INTO twos (id, one_id) VALUES (1, 1)")


def leave_a_circle() -> None:
    send(
        "INSERT INTO ones (id) VALUES (1)",
        "INSERT INTO twos (id, one_id) VALUES (1, 1)",
        "UPDATE ones SET two_id = 1",
    )


def leave_what_has_no_number() -> None:
    send("INSERT INTO unnumbered VALUES ('x')")


def leave_rows_in_a_table_with_an_odd_name() -> None:
    if engine.name != "sqlite":
        send(f"INSERT INTO {quoted(TABLES[-1])} (id) VALUES (DEFAULT)")


def leave_rows_in_partitions() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO parts VALUES (1, 'x'), (2, 'x')")


def move_a_row_to_another_partition() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO parts_1 VALUES (1, 'x')", "UPDATE parts SET id = 2")
        send("INSERT INTO pages_3 VALUES (3, 'x')", "UPDATE pages_more SET id = 4")


def leave_rows_past_the_triggers() -> None:
    if engine.name == "postgresql":
        with suppress(SQLAlchemyError):  # only a superuser may
            send("SET session_replication_role = replica", "INSERT INTO children (parent_id) VALUES (7)")


def leave_many() -> None:
    send(*["INSERT INTO parents (name) VALUES ('x')"] * 500)


def roll_rows_back() -> None:
    for number in range(3):
        User(name="Ada", email=f"{number}@example.com").save()
    session.rollback()


def fail_to_insert() -> None:
    leave_rows()
    for _ in range(3):
        with suppress(SQLAlchemyError):
            User(name="Ada", email="ada@example.com").save()


def leave_an_aborted_transaction() -> None:
    with suppress(SQLAlchemyError):
        session.execute(text("SELECT * FROM nowhere"))
    User(name="Ada", email="never@example.com")


def change_rows_of_the_migrations() -> None:
    send("UPDATE roles SET name = 'other' WHERE id = 1")


def delete_rows_of_the_migrations() -> None:
    send("DELETE FROM roles")


def add_to_rows_of_the_migrations() -> None:
    send("INSERT INTO roles (name) VALUES ('third')")


def change_the_version() -> None:
    send("UPDATE alembic_version SET version_num = '0001'")


def drop_a_table() -> None:
    send("DROP TABLE children")


def drop_and_make_a_table_again() -> None:
    send("DROP TABLE unnumbered", "CREATE TABLE unnumbered (name VARCHAR(50) NOT NULL PRIMARY KEY)")
    send("INSERT INTO unnumbered VALUES ('x')")


def add_a_table() -> None:
    send("CREATE TABLE more (id INTEGER PRIMARY KEY)", "INSERT INTO more VALUES (1)")


def add_a_table_with_an_odd_name() -> None:
    if engine.name != "sqlite":
        name = quoted("5% of it's `more`")
        send(f"CREATE TABLE {name} (id INTEGER PRIMARY KEY)", f"INSERT INTO {name} VALUES (1)")


def add_a_table_with_a_history() -> None:
    if engine.name == "mariadb":
        send("CREATE TABLE more (id INTEGER PRIMARY KEY) WITH SYSTEM VERSIONING", "INSERT INTO more VALUES (1)")


def leave_rows_with_a_history() -> None:
    if engine.name == "mariadb":
        send("INSERT INTO histories VALUES ('x')", "UPDATE histories SET name = 'y'")


def leave_nothing_but_a_history() -> None:
    if engine.name == "mariadb":
        send("INSERT INTO histories VALUES ('x')")
        send("DELETE FROM histories")


def leave_a_history_of_rows_of_the_migrations() -> None:
    if engine.name == "mariadb":
        send("UPDATE prices SET name = 'high'")
        send("UPDATE prices SET name = 'low'")


def add_a_column() -> None:
    send("ALTER TABLE parents ADD COLUMN age INTEGER", "INSERT INTO parents (name, age) VALUES ('x', 1)")


def drop_a_column() -> None:
    send("ALTER TABLE parents DROP COLUMN name")


def rename_a_column() -> None:
    send("ALTER TABLE parents RENAME COLUMN name TO label")


def change_the_name_of_the_file_format() -> None:
    if engine.name == "sqlite":
        send("PRAGMA application_id = 7")


def spoil_the_file() -> None:
    if engine.name == "sqlite":
        Path(str(engine.url.database)).write_bytes(b"x" * 50_000)


def spoil_the_file_without_a_log() -> None:
    if engine.name == "sqlite":
        send("PRAGMA wal_checkpoint(TRUNCATE)")
        spoil_the_file()
        ELSEWHERE.dispose()  # what it has open stays as it is


def add_an_index() -> None:
    send("CREATE UNIQUE INDEX more_ix ON parents (name)")


def add_a_view() -> None:
    send("CREATE VIEW seen AS SELECT name FROM parents")


def add_a_trigger() -> None:
    if engine.name == "sqlite":
        send("CREATE TRIGGER no BEFORE INSERT ON parents BEGIN SELECT RAISE(ABORT, 'no'); END")
    elif MYSQL:
        send("CREATE TRIGGER no BEFORE INSERT ON parents FOR EACH ROW SET NEW.name = 'no'")
    else:
        send(
            "CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",
            "CREATE TRIGGER no BEFORE INSERT ON parents FOR EACH ROW EXECUTE FUNCTION no()",
        )


def truncate() -> None:
    if engine.name != "sqlite":
        send("TRUNCATE TABLE roles")


def copy_rows() -> None:
    if engine.name == "postgresql":
        with engine.begin() as connection:
            cursor = connection.connection.cursor()
            with cursor.copy("COPY parents (name) FROM STDIN") as copy:
                copy.write("x\n")


def take_numbers() -> None:
    if engine.name == "postgresql":
        send("SELECT nextval('users_id_seq')", "SELECT setval('parents_id_seq', 99)")


def set_a_number_that_is_not_given_yet() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO parents (name) VALUES ('x')", "SELECT setval('parents_id_seq', 50, false)")


def set_a_number_of_what_was_not_written() -> None:
    if engine.name == "postgresql":
        send("SELECT setval('users_id_seq', 50, false)")


def take_a_number_of_rows_of_the_migrations() -> None:
    with engine.connect() as connection:
        connection.execute(text("INSERT INTO roles (name) VALUES ('third')"))


def begin_with_another_number() -> None:
    if MYSQL:
        send("ALTER TABLE parents AUTO_INCREMENT = 100", "ALTER TABLE roles AUTO_INCREMENT = 100")


def take_a_number_of_a_sequence() -> None:
    if engine.dialect.supports_sequences:
        send(NEXT)


def restart_a_sequence() -> None:
    if engine.dialect.supports_sequences:
        send("ALTER SEQUENCE order_numbers RESTART WITH 50")


def change_a_sequence() -> None:
    if engine.dialect.supports_sequences:
        send("ALTER SEQUENCE order_numbers INCREMENT BY 5")


def drop_a_sequence() -> None:
    if engine.dialect.supports_sequences:
        send("DROP SEQUENCE order_numbers")


def add_a_sequence() -> None:
    if engine.dialect.supports_sequences:
        send("CREATE SEQUENCE more_numbers")


def change_the_database() -> None:
    if MYSQL:
        send("ALTER DATABASE CHARACTER SET latin1")
    elif engine.name == "postgresql":
        send(f"ALTER DATABASE {engine.url.database} SET search_path = 'nowhere'")


def change_the_database_for_a_role() -> None:
    if engine.name == "postgresql":
        send(f"ALTER ROLE CURRENT_USER IN DATABASE {engine.url.database} SET search_path = 'nowhere'")


def let_others_use_the_database() -> None:
    if engine.name == "postgresql":
        send(f"GRANT CREATE ON DATABASE {engine.url.database} TO PUBLIC")


def leave_a_large_object() -> None:
    if engine.name == "postgresql":
        send("SELECT lo_create(0)")


def change_the_state_of_a_connection_in_other_words() -> None:
    statements = {
        "sqlite": "PRAGMA main.query_only(1)",
        "postgresql": "RESET search_path; SET search_path = 'nowhere'",
        "mysql": "USE information_schema",
    }
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(statements["mysql" if MYSQL else engine.name]))


def change_the_state_of_the_connection_of_the_driver() -> None:
    statements = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET search_path = 'nowhere'",
        "mysql": "USE information_schema",
    }
    raw = engine.raw_connection()
    raw.cursor().execute(statements["mysql" if MYSQL else engine.name])
    raw.commit()
    raw.close()


def change_the_state_of_the_connection_of_the_driver_in_a_transaction() -> None:
    if engine.name != "sqlite":
        session.execute(text("SELECT 1"))
        statement = "SET @x = 5" if MYSQL else "SET search_path = 'nowhere'"
        session.connection().connection.cursor().execute(statement)
        session.commit()


def let_the_driver_commit() -> None:
    if engine.name != "sqlite":
        raw = engine.raw_connection()
        if MYSQL:
            raw.driver_connection.autocommit(True)
        else:
            raw.driver_connection.autocommit = True
        raw.close()


def change_the_state_of_a_connection_in_hidden_words() -> None:
    if engine.name != "sqlite":
        statement = "SELECT 5 INTO @x" if MYSQL else "SELECT 1; SET search_path = 'nowhere'"
        with engine.begin() as connection:
            connection.exec_driver_sql(statement)


def change_the_state_of_a_connection_in_a_block() -> None:
    if engine.name != "sqlite":
        block = "BEGIN NOT ATOMIC SET @x = 5; END" if MYSQL else "DO $$ BEGIN SET search_path = 'nowhere'; END $$"
        with engine.begin() as connection:
            connection.exec_driver_sql(block)


def hold_a_cursor() -> None:
    if engine.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("DECLARE words CURSOR WITH HOLD FOR SELECT 1"))


def flush_a_table() -> None:
    if MYSQL:
        with suppress(SQLAlchemyError), engine.begin() as connection:  # only with the right RELOAD
            connection.execute(text("FLUSH TABLES parents WITH READ LOCK"))


def empty_the_file() -> None:
    if engine.name == "sqlite":
        leave_rows()
        session.remove()
        engine.dispose()
        ELSEWHERE.dispose()  # what it has open stays as it is
        Path(str(engine.url.database)).write_bytes(b"")


def empty_the_log() -> None:
    if engine.name == "sqlite":
        leave_rows()
        session.remove()
        engine.dispose()
        ELSEWHERE.dispose()
        Path(f"{engine.url.database}-wal").write_bytes(b"")


def remove_the_log() -> None:
    if engine.name == "sqlite":
        leave_rows()
        session.remove()
        engine.dispose()
        ELSEWHERE.dispose()
        for suffix in ("-wal", "-shm"):
            Path(f"{engine.url.database}{suffix}").unlink()


def lock_a_table() -> None:
    if MYSQL:
        with engine.begin() as connection:
            connection.execute(text("LOCK TABLES parents READ"))


def change_the_schema_past_the_triggers() -> None:
    if engine.name == "postgresql":
        with suppress(SQLAlchemyError):  # only a superuser may
            send("SET session_replication_role = replica", "ALTER TABLE parents ADD COLUMN age INTEGER")


def add_a_policy() -> None:
    if engine.name == "postgresql":
        send("CREATE POLICY nobody ON parents USING (false)")


def hide_rows_from_their_owner() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO guarded VALUES (1)")


def refresh_a_view() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO parents (name) VALUES ('x')", "REFRESH MATERIALIZED VIEW CONCURRENTLY summary")


def add_to_a_partition_of_a_filled_table() -> None:
    if engine.name == "postgresql":
        send("INSERT INTO pages_2 VALUES (2, 'x')")


def add_a_value_to_a_type() -> None:
    if engine.name == "postgresql":
        other = create_engine(engine.url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with other.connect() as connection:
            connection.execute(text("ALTER TYPE mood ADD VALUE 'glum'"))


def add_a_type() -> None:
    if engine.name == "postgresql":
        send("CREATE TYPE colour AS ENUM ('red')", "CREATE SCHEMA elsewhere", "CREATE TABLE elsewhere.things (id int)")


def leave_a_temporary_table() -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TEMPORARY TABLE parents (id INTEGER, name VARCHAR(9))"))
        connection.execute(text("INSERT INTO parents VALUES (1, 'x')"))
        if engine.name == "postgresql":  # which drops them a moment after their connection has ended
            for number in range(50):
                connection.execute(text(f"CREATE TEMPORARY TABLE more_{number} (id serial, name text UNIQUE)"))


def change_the_state_of_a_connection() -> None:
    statements = {
        "sqlite": "PRAGMA query_only = ON",
        "postgresql": "SET search_path = 'nowhere'",
        "mysql": "SET SESSION sql_mode = 'ANSI_QUOTES'",
    }
    with engine.begin() as connection:
        connection.execute(text(statements["mysql" if MYSQL else engine.name]))


def set_what_a_session_keeps_by_a_function() -> None:
    if engine.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("/* for all */ SELECT set_config('search_path', 'nowhere', false)"))


def share_a_lock_of_the_session() -> None:
    if engine.name == "postgresql":
        with engine.begin() as connection:
            connection.execute(text("SELECT pg_advisory_lock_shared(1)"))


def hold_a_lock_of_the_session() -> None:
    if engine.name != "sqlite":
        with engine.begin() as connection:
            connection.execute(text("SELECT GET_LOCK('x', 0)" if MYSQL else "SELECT pg_advisory_lock(1)"))


def end_all_connections() -> None:
    if engine.name == "postgresql":
        others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
        send(f"{others} AND pid <> pg_backend_pid()")
    elif MYSQL:
        with engine.connect() as connection:
            ids = "SELECT id FROM information_schema.processlist WHERE db LIKE :db AND id <> CONNECTION_ID()"
            found = connection.execute(text(ids), {"db": f"{engine.url.database}_kit"}).scalars().all()
        for number in found:
            with suppress(SQLAlchemyError):  # it may just have ended by itself
                send(f"KILL {number}")


def drop_all() -> None:
    if engine.name == "postgresql":
        send("DROP SCHEMA public CASCADE", "DROP SCHEMA test_kit CASCADE", "CREATE SCHEMA public")


def comment_and_collate() -> None:
    if engine.name == "postgresql":
        send("COMMENT ON TABLE parents IS 'x'", "CREATE COLLATION other (locale = 'C')")


def forget_a_connection_in_a_circle() -> None:
    circle: list[object] = [engine.connect()]
    circle.append(circle)


def write_in_a_callback() -> None:
    @transaction
    def later() -> None:
        User(name="Ada", email="later@example.com").save()

    on_commit(later)
    leave_rows()


send("INSERT INTO parents (name) VALUES ('collected')")  # while the tests are looked for

DEEDS = [deed for name, deed in globals().items() if callable(deed) and getattr(deed, "__module__", "") == __name__]
DEEDS = [deed for deed in DEEDS if deed not in (send, quoted)]


@pytest.fixture(scope="module")
def wide() -> None:
    """Rows that are written for a whole module, one of them not committed: no test finds them."""
    send("INSERT INTO parents (name) VALUES ('wide')")
    User(name="Ada", email="wide@example.com").save()


def look() -> None:
    """Look whether the database is as the migrations made it."""
    if engine.name == "sqlite":  # on a server a connection may have been ended
        with ELSEWHERE.connect() as connection:
            assert connection.execute(text("SELECT * FROM parents")).all() == []
            assert connection.scalar(text("PRAGMA application_id")) == 0
    with engine.connect() as connection:
        found = inspect(connection)
        assert sorted(found.get_table_names()) == sorted(TABLES)
        assert found.get_view_names() == []
        assert [column["name"] for column in found.get_columns("parents")] == ["id", "name"]
        assert found.get_indexes("parents") == []
        if engine.name == "postgresql":
            assert connection.execute(text("SELECT * FROM summary")).all() == []
            assert connection.execute(text("SELECT * FROM pg_policies WHERE tablename = 'parents'")).all() == []
            assert connection.scalar(text("SELECT enum_range(NULL::mood)::text")) == "{happy}"
            assert connection.scalar(text("SELECT COUNT(*) FROM pg_cursors")) == 0
            assert connection.scalars(text("SELECT oid FROM pg_largeobject_metadata")).all() == [7]
            of_database = "SELECT datacl FROM pg_database WHERE datname = current_database()"
            assert connection.scalar(text(of_database)) is None
        for table in TABLES:
            rows = connection.execute(text(f"SELECT * FROM {quoted(table)}")).all()
            expected = FILLED.get(table, [])
            assert [tuple(row) for row in rows] == expected, table
        number = connection.scalar(text("INSERT INTO roles (name) VALUES ('third') RETURNING id"))
        assert number == len(FILLED["roles"]) + 1
        if engine.name == "postgresql":
            connection.execute(text("INSERT INTO guarded VALUES (1)"))  # its owner would not see another one
        if engine.dialect.supports_sequences:
            assert [connection.scalar(text(NEXT)) for _ in range(2)] == [2, 3]
            assert inspect(connection).get_sequence_names().count("more_numbers") == 0
        if MYSQL:
            assert connection.scalar(text("SELECT @@character_set_database")) != "latin1"
            assert connection.scalar(text("SELECT @x")) is None
        if engine.name == "mariadb":
            for table, count in (("prices", 1), ("histories", 0)):
                assert connection.scalar(text(f"SELECT COUNT(*) FROM {table} FOR SYSTEM_TIME ALL")) == count
            assert connection.scalar(text("INSERT INTO prices (name) VALUES ('x') RETURNING id")) == 2
        if engine.name != "sqlite":
            rows = f"INSERT INTO {quoted(TABLES[-1])} (id) VALUES (DEFAULT) RETURNING id"
            assert connection.scalar(text(rows)) == (500 if MYSQL else 1)
    assert User(name="Ada", email="ada@example.com").save().id == 1
    session.rollback()
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 0
    session.rollback()
    send("INSERT INTO parents (name) VALUES ('new')")
    if engine.name == "postgresql":
        with create_engine(engine.url, poolclass=NullPool).connect() as connection:
            assert connection.scalar(text("SELECT pg_try_advisory_lock(1)"))
    with session_factory() as other:
        assert list(other.execute(text("SELECT id, name FROM parents"))) == [(1, "new")]


@pytest.mark.parametrize("step", ["do", "look"])  # the first one varies fastest
@pytest.mark.parametrize("deed", DEEDS, ids=lambda deed: deed.__name__)
def test_nothing_is_left(deed, step) -> None:
    (look if step == "look" else deed)()


@pytest.mark.usefixtures("wide")
def test_what_a_wider_fixture_writes_is_gone() -> None:
    look()
