"""The test kit of a generated project, against tests that leave their database in every state, on each database."""

import os
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, make_url

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.servers import ADMINISTRATORS, drop_databases, require

IN_KIT = Path(__file__).parent / "in_kit"
ON_EACH = pytest.mark.parametrize("server", ["sqlite", "postgresql", "mariadb"])
ON_SERVERS = pytest.mark.parametrize("server", ["postgresql", "mariadb"])


@pytest.fixture
def url(server: str) -> Iterator[str]:
    """What the tests of a project are told to use; the databases that they make are dropped."""
    if server == "sqlite":
        yield ""
        return
    administrator = make_url(ADMINISTRATORS[server])
    require(server, administrator.host, administrator.port)
    name = f"kit_{uuid4().hex[:10]}_test"
    yield administrator.set(database=name).render_as_string(hide_password=False)
    drop_databases(server, name)


@pytest.fixture
def role_url(server: str) -> Iterator[str]:
    """A role that may make databases of its own, and nothing else."""
    administrator = make_url(ADMINISTRATORS[server])
    require(server, administrator.host, administrator.port)
    name = f"kit_{uuid4().hex[:10]}"
    made, dropped = {
        "postgresql": ([f"CREATE ROLE {name} LOGIN CREATEDB PASSWORD 'secret'"], f"DROP ROLE {name}"),
        "mariadb": (
            [f"CREATE USER {name} IDENTIFIED BY 'secret'", f"GRANT ALL ON `{name}\\_%%`.* TO {name}"],
            f"DROP USER {name}",
        ),
    }[server]
    engine = create_engine(administrator, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in made:
            connection.exec_driver_sql(statement)
    own = administrator.set(username=name, password="secret", database=f"{name}_test")
    yield own.render_as_string(hide_password=False)
    drop_databases(server, name)
    with engine.connect() as connection:
        connection.exec_driver_sql(dropped)
    engine.dispose()


@pytest.fixture
def project(bake: Bake) -> Path:
    """A project with tables of every kind."""
    project = bake()
    shutil.copy(IN_KIT / "0002_more.py", project / "migrations" / "versions")
    return project


def suite(project: Path, url: str, *arguments: str, ok: bool = True) -> str:
    """Run tests of a project, by default in the order of their file, and return what was printed."""
    command: tuple[str | Path, ...] = (PYTHON, "-m", "pytest", "-q", "-p", "no:randomly", *arguments)
    return run(*command, cwd=project, ok=ok, variables={"TEST_DATABASE_URL": url}).stdout


def write_test(project: Path, text: str) -> str:
    """Write a file of tests, and return its path."""
    path = project / "tests" / "test_written.py"
    path.write_text(
        "import os, signal, threading\nfrom flask import has_app_context\nfrom app.db import engine, session\nfrom app.models import User\n"
        "from sqlalchemy import create_engine, text\n" + text
    )
    return f"tests/{path.name}"


def run_that_is_killed(project: Path, url: str, path: str) -> None:
    """Run tests that kill their process."""
    command = [str(PYTHON), "-m", "pytest", path]
    killed = subprocess.run(command, cwd=project, env=environment(TEST_DATABASE_URL=url), capture_output=True)
    assert killed.returncode == -signal.SIGKILL


@ON_EACH
@pytest.mark.parametrize("arguments", [(), ("-p", "randomly", "-n", "2")], ids=["in order", "by chance in two workers"])
def test_nothing_that_a_test_leaves_reaches_the_next(project: Path, url: str, arguments: tuple[str, ...]) -> None:
    shutil.copy(IN_KIT / "test_hostile.py", project / "tests")

    assert " passed" in suite(project, url, "tests/test_hostile.py", *arguments)


@ON_EACH
def test_rows_are_deleted_without_making_the_database_anew(project: Path, url: str) -> None:
    for name in ("test_hostile.py", "test_made_anew.py"):
        shutil.copy(IN_KIT / name, project / "tests")

    assert " passed" in suite(project, url, "tests/test_made_anew.py")


@ON_SERVERS
def test_a_role_that_is_no_superuser_is_enough(project: Path, role_url: str) -> None:
    for name in ("test_hostile.py", "test_made_anew.py"):
        shutil.copy(IN_KIT / name, project / "tests")

    assert " passed" in suite(project, role_url, "tests/test_hostile.py")
    assert " passed" in suite(project, role_url, "tests/test_made_anew.py")


MIGRATION = '''"""What only some have."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make it."""
    op.execute("{statement}")
'''


def project_with(bake: Bake, statement: str) -> Path:
    """Bake a project with a migration that sends a statement."""
    project = bake()
    (project / "migrations" / "versions" / "0002_more.py").write_text(MIGRATION.format(statement=statement))
    return project


@pytest.mark.parametrize("server", ["postgresql"])
def test_a_publication_of_all_tables_does_not_make_the_database_anew(bake: Bake, url: str) -> None:
    project = project_with(bake, "CREATE PUBLICATION everything FOR ALL TABLES")
    path = write_test(
        project,
        """
from tests import DATABASE

made_anew, rebuild = [], DATABASE.rebuild
DATABASE.rebuild = lambda: (made_anew.append(1), rebuild())

def test_writes():
    User(name="Ada", email="ada@example.com").save()
    session.commit()

def test_was_not_made_anew():
    assert made_anew == []
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 0
""",
    )

    assert "2 passed" in suite(project, url, path)


@pytest.mark.parametrize("server", ["postgresql"])
def test_ids_that_a_connection_keeps_in_stock_restart_too(bake: Bake, url: str) -> None:
    project = project_with(bake, "CREATE TABLE stock (id int GENERATED ALWAYS AS IDENTITY (CACHE 10))")
    path = write_test(
        project,
        """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_writes(number):
    assert session.scalar(text("INSERT INTO stock DEFAULT VALUES RETURNING id")) == 1
    session.commit()
""",
    )

    assert "2 passed" in suite(project, url, path)


NUMBERED = """
    CREATE TABLE firsts (id serial, name text UNIQUE);
    CREATE TABLE seconds (id int DEFAULT nextval('firsts_id_seq'));
    CREATE TABLE plain (name text);
    CREATE SEQUENCE of_view;
    CREATE VIEW shown AS SELECT name FROM plain;
    ALTER VIEW shown ALTER COLUMN name SET DEFAULT nextval('of_view');
    CREATE TABLE whole (id int GENERATED ALWAYS AS IDENTITY, part int) PARTITION BY LIST (part);
    CREATE TABLE part_1 PARTITION OF whole FOR VALUES IN (1);
    CREATE TABLE thousands (id serial);
    SELECT setval('thousands_id_seq', 1000);
"""
MOVES = """
import psycopg
import pytest

def send(statement):
    session.execute(text(statement))
    session.commit()

def fail():
    with pytest.raises(Exception, match="duplicate"):
        session.execute(text("INSERT INTO firsts (name) VALUES ('x'), ('x')"))
    session.rollback()

def take_back():
    session.execute(text("INSERT INTO firsts DEFAULT VALUES"))
    session.rollback()

def take_back_a_table():
    session.execute(text("CREATE TABLE more (LIKE firsts INCLUDING ALL)"))
    session.execute(text("INSERT INTO more DEFAULT VALUES"))
    session.rollback()

def send_by_the_driver():
    url = engine.url.set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(url) as connection:
        connection.execute("SELECT nextval('firsts_id_seq')")

def send_by_a_connection_of_the_pool():
    with engine.connect() as connection:
        connection.connection.driver_connection.execute("SELECT nextval('firsts_id_seq')")

KEPT = create_engine(engine.url)

def keep_a_connection():
    with KEPT.connect() as connection:
        connection.execute(text("SELECT 1"))

def send_by_a_connection_that_is_kept():
    with KEPT.connect() as connection:
        connection.execute(text("SELECT nextval('firsts_id_seq')"))

def send_and_close_it():
    send_by_a_connection_that_is_kept()
    KEPT.dispose()

DEEDS = [
    "SELECT 1",  # after a first test, and a first connection, all are looked at
    "SELECT nextval('firsts_id_seq')",
    "SELECT setval('firsts_id_seq', 50, false)",
    "INSERT INTO seconds DEFAULT VALUES",
    "INSERT INTO shown DEFAULT VALUES",
    "INSERT INTO whole (part) VALUES (1)",
    "TRUNCATE thousands RESTART IDENTITY",
    fail, take_back, take_back_a_table, send_by_the_driver, send_by_a_connection_of_the_pool,
    keep_a_connection, send_by_a_connection_that_is_kept, send_and_close_it,  # last: all are looked at now
]

@pytest.mark.parametrize("step", ["do", "look"])
@pytest.mark.parametrize("deed", DEEDS, ids=str)
def test_it(deed, step):
    if step == "look":
        assert session.scalar(text("SELECT nextval('of_view')")) == 1
        for table, first in (("firsts", 1), ("thousands", 1001)):
            assert session.scalar(text(f"INSERT INTO {table} DEFAULT VALUES RETURNING id")) == first
        assert session.scalar(text("INSERT INTO whole (part) VALUES (1) RETURNING id")) == 1
    elif callable(deed):
        deed()
    else:
        send(deed)

def test_the_last_number_is_that_of_the_app():
    session.execute(text("INSERT INTO plain DEFAULT VALUES"))
    session.execute(text("INSERT INTO firsts DEFAULT VALUES"))
    session.execute(text("INSERT INTO plain DEFAULT VALUES"))
    assert session.scalar(text("SELECT lastval()")) == 1
"""


@pytest.mark.parametrize("server", ["postgresql"])
def test_ids_restart_whatever_has_moved_them(bake: Bake, url: str) -> None:
    project = project_with(bake, " ".join(NUMBERED.split()))
    path = write_test(project, MOVES)

    assert "31 passed" in suite(project, url, path)


@pytest.mark.parametrize("server", ["postgresql"])
@pytest.mark.parametrize(
    ("made", "move"),
    [
        (
            "CREATE FUNCTION move() RETURNS bigint LANGUAGE sql AS $$ SELECT nextval('users_id_seq') $$",
            "SELECT move()",
        ),
        (
            "CREATE TABLE copies (id int);"
            " CREATE RULE move AS ON INSERT TO users DO INSTEAD INSERT INTO copies VALUES (NEW.id)",
            "INSERT INTO users (name) VALUES ('x')",
        ),
    ],
    ids=["function", "rule"],
)
def test_ids_restart_where_a_function_or_a_rule_moves_them(bake: Bake, url: str, made: str, move: str) -> None:
    project = project_with(bake, made)
    path = write_test(
        project,
        f"""
def test_begins():
    session.scalar(text("SELECT 1"))  # after a first test, and a first connection, all are looked at

def test_moves():
    session.execute(text({move!r}))
    session.commit()

def test_begins_with_1():
    assert session.scalar(text("SELECT nextval('users_id_seq')")) == 1
""",
    )

    assert "3 passed" in suite(project, url, path)


@pytest.mark.parametrize("server", ["postgresql"])
def test_ids_restart_when_another_role_has_moved_them(bake: Bake, role_url: str) -> None:
    project = project_with(bake, "CREATE TABLE others (id serial)")
    administrator = make_url(ADMINISTRATORS["postgresql"]).render_as_string(hide_password=False)
    path = write_test(
        project,
        f"""
from sqlalchemy import make_url

KEPT = create_engine(make_url({administrator!r}).set(database=engine.url.database))

def write():
    session.execute(text("INSERT INTO others DEFAULT VALUES"))
    session.commit()

def test_begins():
    KEPT.connect().close()
    write()

def test_waits():
    write()

def test_moves():
    with KEPT.begin() as connection:
        connection.execute(text("SELECT setval('users_id_seq', 50)"))

def test_begins_with_1():
    assert User(name="Ada", email="ada@example.com").save().id == 1
""",
    )

    assert "4 passed" in suite(project, role_url, path)


@pytest.mark.parametrize("server", ["postgresql"])
def test_a_sequence_that_nobody_can_have_moved_costs_no_time(bake: Bake, url: str) -> None:
    project = project_with(bake, "CREATE TABLE others (id serial)")
    path = write_test(
        project,
        """
from tests import DATABASE

def test_begins():  # after a first test, and a first connection, all are looked at
    session.execute(text("INSERT INTO others DEFAULT VALUES"))
    session.commit()

def test_moves_it_unseen():
    DATABASE.own.exec_driver_sql("SELECT setval('users_id_seq', 50)")
    session.execute(text("INSERT INTO others DEFAULT VALUES"))
    session.commit()

def test_was_not_looked_at():
    assert session.scalar(text("INSERT INTO others DEFAULT VALUES RETURNING id")) == 1
    assert User(name="Ada", email="ada@example.com").save().id == 51
    session.rollback()

def test_was_looked_at_after_a_rollback():
    assert User(name="Ada", email="ada@example.com").save().id == 1
""",
    )

    assert "4 passed" in suite(project, url, path)


@ON_EACH
def test_what_a_test_leaves_open_is_ended_and_fails_it_by_name(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

kept = []
release = threading.Event()
executor = ThreadPoolExecutor(1)

def ask():
    with engine.connect() as connection:
        return connection.scalar(text("SELECT 1"))

def test_writes():
    kept.append(create_engine(engine.url).connect())
    kept[-1].execute(text("INSERT INTO users (name, email, created_at) VALUES ('x', 'x', '2020-01-01')"))

def test_reads():
    kept.append(engine.connect())
    kept[-1].execute(text("SELECT * FROM users"))

def test_reads_elsewhere():
    kept.append(create_engine(engine.url).connect())
    kept[-1].execute(text("SELECT * FROM users"))

def test_keeps_a_connection():
    kept.append(engine.connect())
    kept[-1].execute(text("SELECT pg_advisory_lock(7)" if engine.name == "postgresql" else "SELECT 1"))
    kept[-1].commit()
    assert executor.submit(ask).result() == 1

def test_waits_in_a_thread():
    def hold():
        with suppress(DBAPIError), engine.connect() as connection:  # which is ended meanwhile
            connection.execute(text("SELECT 1"))
            release.wait(20)
        pytest.raises(RuntimeError, engine.connect)
    kept.append(threading.Thread(target=hold, daemon=True))
    kept[-1].start()

def test_writes_on():
    def write():
        for number in count():
            try:
                with engine.begin() as connection:
                    connection.execute(insert(User).values(name="x", email=f"{number}@example.com"))
            except DBAPIError:  # its connection was ended
                continue
            except RuntimeError:
                if release.is_set():
                    return
    kept.append(threading.Thread(target=write, daemon=True))
    kept[-1].start()

def test_pushes_a_context(app):
    app.app_context().push()

def test_is_clean():
    assert not has_app_context()
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 0
    assert User(name="Ada", email="ada@example.com").save().id == 1
    assert engine.name != "postgresql" or session.scalar(text("SELECT pg_try_advisory_lock(7)"))
    session.commit()
    assert executor.submit(ask).result() == 1  # by the same thread, which had left nothing
    release.set()
    for thread in kept[-2:]:
        thread.join(5)
        assert not thread.is_alive()
""",
    )

    told = suite(project, url, path, "--durations=9", ok=False)

    left_open = [
        "writes",
        "reads",
        "keeps_a_connection",
        "waits_in_a_thread",
        "writes_on",
        "pushes_a_context",
    ]
    if url:  # on SQLite nobody waits for a reader, and its file is replaced
        left_open.append("reads_elsewhere")
    assert re.search(rf"8 passed, {len(left_open)} errors in [0-9]\.", told), told
    for name in left_open:
        assert f"ERROR {path}::test_{name} - Failed: The test" in told


@ON_SERVERS
def test_what_is_left_open_is_ended_for_a_role_that_is_no_superuser_too(project: Path, role_url: str) -> None:
    test_what_a_test_leaves_open_is_ended_and_fails_it_by_name(project, role_url)


LOCKED = "A transaction that cannot be ended from here keeps the database"


@pytest.mark.parametrize("server", ["mariadb"])
def test_a_lock_that_is_held_from_another_database_fails_its_tests_until_it_is_gone(bake: Bake, url: str) -> None:
    project = bake()
    path = write_test(
        project,
        """
elsewhere = create_engine(engine.url.set(database="information_schema")).connect()

def test_reads_from_elsewhere():
    User(name="Ada", email="ada@example.com").save()
    session.commit()
    elsewhere.execute(text(f"SELECT * FROM {engine.url.database}.users"))

def test_keeps_it():
    assert elsewhere.in_transaction()

class TestEnded:
    @classmethod
    def setup_class(cls):
        elsewhere.close()

    def test_is_clean(self):
        assert User(name="Ada", email="ada@example.com").save().id == 1
        assert session.scalar(text("SELECT COUNT(*) FROM users")) == 1
""",
    )

    told = suite(project, url, path, ok=False)

    assert "2 passed, 2 errors" in told
    assert len(re.findall(f"^{LOCKED}", told, re.MULTILINE)) == 2
    assert "exception" not in told
    for name in ("reads_from_elsewhere", "keeps_it"):
        assert f"ERROR {path}::test_{name} - Failed: A transac" in told


@pytest.mark.parametrize("server", ["mariadb"])
def test_a_connection_that_dies_while_it_empties_a_table_is_replaced(bake: Bake, url: str) -> None:
    project = bake()
    path = write_test(
        project,
        """
import pytest
from pymysql.err import OperationalError
from tests import DATABASE

class Dead:
    def __getattr__(self, name):
        died.append(name)
        raise OperationalError(2013, "Lost connection to MySQL server during query")

died = []

@pytest.fixture
def dies():
    DATABASE._fetch_and_empty((), ["users"])  # again: others may have been waited for because of their DDL
    assert DATABASE.driver_connection._result.has_next
    DATABASE._wait()  # so that the table can be filled again
    with create_engine(engine.url).begin() as other:
        other.execute(text("INSERT INTO users (name, email, created_at) VALUES ('x', 'x', '2020-01-01')"))
    DATABASE.driver_connection = Dead()

def test_writes():
    User(name="Ada", email="ada@example.com").save()
    session.commit()

def test_is_clean(dies):
    assert User(name="Ada", email="ada@example.com").save().id == 1
    assert died[0] == "_result"
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 1
""",
    )

    assert "2 passed" in suite(project, url, path)


LOST = """
from time import sleep
from tests import DATABASE

BACKEND, LOCK = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_try_advisory_lock(hashtextextended(:name, 0))"),
    "mysql": ("SELECT CONNECTION_ID()", "SELECT GET_LOCK(:name, 0)"),
}[engine.name.replace("mariadb", "mysql")]
others = create_engine(DATABASE.server_url.set(database=DATABASE.home), isolation_level="AUTOCOMMIT")
kept = []

def end(*connections):
    numbers = [connection.scalar(text(BACKEND)) for connection in connections]
    with others.connect() as other:
        for number in numbers:
            other.execute(text(f"SELECT pg_terminate_backend({number})" if engine.name == "postgresql" else f"KILL {number}"))

def write():
    assert User(name="Ada", email="ada@example.com").save().id == 1
    session.commit()

def write_and_change_a_table():
    write()
    session.execute(text("CREATE INDEX more ON users (name)"))
    session.commit()

def test_ends_what_restores():
    write()
    end(DATABASE.own)

def test_changes_a_table():
    write_and_change_a_table()
    end(DATABASE.server)

def test_keeps_a_connection():
    write()
    kept.append(engine.connect())
    end(DATABASE.server)

def test_ends_both():
    write()
    end(DATABASE.server, DATABASE.own)

def test_is_clean_and_has_its_name():
    write()
    with others.connect() as other:
        assert not other.scalar(text(LOCK), {"name": DATABASE.name})

def test_a_place_in_the_pool_may_be_empty():
    with engine.connect(), engine.connect():
        pass
    idle = DATABASE._idle()
    with engine.connect(), engine.connect() as lost:
        lost.invalidate()
    assert DATABASE._idle() == idle - 1

def test_another_run_takes_the_name():
    write_and_change_a_table()
    end(DATABASE.server)
    kept.append(others.connect())
    while not kept[-1].scalar(text(LOCK), {"name": DATABASE.name}):
        sleep(0.01)

def test_is_not_run():
    raise AssertionError
"""


@ON_SERVERS
def test_a_connection_of_the_tests_that_is_lost_is_replaced(bake: Bake, url: str) -> None:
    project = bake()
    path = write_test(project, LOST)

    told = suite(project, url, path, ok=False)

    assert "7 passed, 3 errors" in told
    assert f"ERROR {path}::test_keeps_a_connection - Failed: The test" in told
    assert len(re.findall("^The connection to the server was lost, and another run has taken", told, re.MULTILINE)) == 2
    for name in ("another_run_takes_the_name", "is_not_run"):
        assert f"ERROR {path}::test_{name} - Failed: The" in told


def pass_on(source: socket.socket, target: socket.socket, away: Path) -> None:
    """Pass on what one side says to the other, until a file is there that says that the server is away."""
    with suppress(OSError), source, target:
        source.settimeout(0.02)
        while not away.exists():
            with suppress(TimeoutError):
                said = source.recv(65536)
                if not said:
                    break
                target.sendall(said)


@ON_SERVERS
def test_a_server_that_goes_away_is_told_in_a_line_and_found_again(bake: Bake, url: str) -> None:
    project = bake()
    path = write_test(
        project,
        """
import time
from pathlib import Path
import pytest
from sqlalchemy.exc import DBAPIError

away = Path("away")

def write():
    assert User(name="Ada", email="ada@example.com").save().id == 1
    session.commit()

def test_is_there():
    write()

def test_goes():
    write()
    away.touch()
    time.sleep(1)  # fifty times what it takes
    with pytest.raises(DBAPIError):
        write()

def test_is_away():
    raise AssertionError

class TestBack:
    @classmethod
    def setup_class(cls):
        away.unlink()

    def test_is_back(self):
        write()

    def test_is_clean(self):
        write()
""",
    )
    there = make_url(url)
    plain = {"sslmode": "disable"} if there.drivername.startswith("postgresql") else {"ssl_disabled": "true"}
    with socket.create_server(("127.0.0.1", 0)) as relay:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    client = relay.accept()[0]
                    server = socket.create_connection((there.host, there.port))
                    for pair in ((client, server), (server, client)):
                        threading.Thread(target=pass_on, args=(*pair, project / "away"), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        through = there.update_query_dict(plain).set(host="127.0.0.1", port=relay.getsockname()[1])
        told = suite(project, through.render_as_string(hide_password=False), path, ok=False)

    assert "4 passed, 2 errors" in told
    for name in ("goes", "is_away"):
        assert f"ERROR {path}::test_{name} - Failed: TEST_DATABASE_URL" in told


MANY_TABLES = '''"""What takes some time to be emptied."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the tables."""
    for number in range(20):
        op.create_table(f"more_{number}", sa.Column("id", sa.Integer, primary_key=True))
'''


@pytest.mark.parametrize("server", ["mariadb"])
def test_a_transaction_that_begins_with_its_test_reads_all_tables(bake: Bake, url: str) -> None:
    project = bake()
    (project / "migrations" / "versions" / "0002_more_tables.py").write_text(MANY_TABLES)
    (project / "reader.py").write_text(
        """
import sys
from sqlalchemy import NullPool, create_engine, text

engine = create_engine(sys.argv[1], poolclass=NullPool)
for _ in sys.stdin:
    with engine.connect() as connection:
        connection.execute(text("SELECT * FROM alembic_version"))
        print(len(connection.execute(text("SELECT * FROM users")).all()), flush=True)
"""
    )
    path = write_test(
        project,
        """
import subprocess, sys
import pytest

@pytest.fixture(scope="module")
def process():
    command = [sys.executable, "reader.py", engine.url.render_as_string(hide_password=False)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as started:
        yield started
        started.stdin.close()

def write():
    User(name="Ada", email="ada@example.com").save()
    for number in range(20):
        session.execute(text(f"INSERT INTO more_{number} VALUES (1)"))
    session.commit()

@pytest.mark.parametrize("number", range(20))
def test_reads_past_the_engine(number):
    connection = engine.raw_connection()
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM alembic_version")
        cursor.execute("SELECT * FROM users")
        assert not cursor.fetchall()
    connection.close()
    write()

def look(process):
    print("read", file=process.stdin, flush=True)
    return int(process.stdout.readline())

@pytest.fixture
def seen(process):
    return look(process)

@pytest.fixture(scope="module", params=range(10))
def seen_by_a_wider_fixture(process, request):
    return look(process)

@pytest.mark.parametrize("number", range(20))
def test_reads_in_another_process(number, seen):
    assert seen == 0
    write()

def test_is_read_by_a_wider_fixture(seen_by_a_wider_fixture):
    assert seen_by_a_wider_fixture == 0
    write()
""",
    )

    assert "50 passed" in suite(project, url, path)


@pytest.mark.parametrize("server", ["mariadb"])
def test_a_transaction_that_is_prepared_and_left_is_told_in_a_line(bake: Bake, url: str, server: str) -> None:
    project, name = bake(), f"kit_{uuid4().hex}"
    path = write_test(
        project,
        f"""
from sqlalchemy import NullPool

def test_prepares():
    options = {{"isolation_level": "AUTOCOMMIT", "poolclass": NullPool, "pool_reset_on_return": None}}
    with create_engine(engine.url, **options).connect() as connection:
        connection.execute(text("XA START '{name}'"))
        connection.execute(text("INSERT INTO users (name, email, created_at) VALUES ('x', 'x', '2020-01-01')"))
        connection.execute(text("XA END '{name}'"))
        connection.execute(text("XA PREPARE '{name}'"))
""",
    )
    administrator = create_engine(ADMINISTRATORS[server], isolation_level="AUTOCOMMIT")

    try:
        told = suite(project, url, path, ok=False)
        told_next = suite(project, url, "tests/test_pages.py", ok=False)
    finally:
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"XA ROLLBACK '{name}'")
        administrator.dispose()

    assert re.search(f"^{LOCKED}", told, re.MULTILINE)
    assert f"ERROR {path}::test_prepares - Failed: A transac" in told
    assert "`XA RECOVER` lists those that are prepared" in one_message(told_next)
    assert " passed" in suite(project, url, "tests/test_pages.py")


@pytest.mark.parametrize("server", ["mariadb"])
def test_what_waits_in_another_database_is_not_waited_for(bake: Bake, url: str, server: str) -> None:
    project, name = bake(), f"kit_{uuid4().hex[:10]}_other"
    path = write_test(
        project,
        """
def test_changes_a_table():
    session.execute(text("ALTER TABLE users ADD COLUMN size INTEGER"))
""",
    )
    options: dict[str, Any] = {"isolation_level": "AUTOCOMMIT", "poolclass": NullPool, "pool_reset_on_return": None}
    administrator = create_engine(ADMINISTRATORS[server], **options)

    def send(*statements: str) -> None:
        with closing(administrator.raw_connection()) as connection:
            for statement in statements:
                connection.cursor().execute(statement)

    send(f"CREATE DATABASE {name}", f"CREATE TABLE {name}.kept (id INTEGER) ENGINE=InnoDB")
    send(f"XA START '{name}'", f"INSERT INTO {name}.kept VALUES (1)", f"XA END '{name}'", f"XA PREPARE '{name}'")
    waiting = threading.Thread(target=send, args=["SET innodb_lock_wait_timeout = 60", f"DROP TABLE {name}.kept"])
    waiting.start()
    try:
        told = suite(project, url, path)
        assert re.search(r"1 passed in [0-4]\.", told), told  # seconds; it would wait for five, or as long as that one
        assert waiting.is_alive()
    finally:
        send(f"XA ROLLBACK '{name}'")
        waiting.join()
        send(f"DROP DATABASE {name}")
        administrator.dispose()


@ON_EACH
@pytest.mark.parametrize(
    "deeds",
    [
        "leave_rows(), leave_a_circle(), leave_what_has_no_number()",
        "drop_a_table(), add_a_column(), change_the_version()",
    ],
    ids=["rows", "tables"],
)
def test_a_killed_run_does_not_stop_the_next_one(project: Path, url: str, deeds: str) -> None:
    shutil.copy(IN_KIT / "test_hostile.py", project / "tests")
    path = write_test(
        project,
        f"""
from tests.test_hostile import *

def test_is_killed():
    {deeds}
    os.kill(os.getpid(), signal.SIGKILL)
""",
    )

    run_that_is_killed(project, url, f"{path}::test_is_killed")

    write_test(project, "from tests.test_hostile import look\n\ndef test_is_clean():\n    look()\n")
    assert "1 passed" in suite(project, url, path)


@ON_EACH
def test_a_run_that_is_killed_while_it_builds_is_built_anew(project: Path, url: str) -> None:
    migration = project / "migrations" / "versions" / "0002_more.py"
    whole = migration.read_text()
    migration.write_text(
        whole.replace(
            "    roles = op", "    import os, signal\n    os.kill(os.getpid(), signal.SIGKILL)\n    roles = op"
        )
    )
    path = write_test(project, "def test_nothing():\n    pass\n")
    run_that_is_killed(project, url, path)
    migration.write_text(whole)
    shutil.copy(IN_KIT / "test_hostile.py", project / "tests")

    assert " passed" in suite(project, url, "tests/test_hostile.py", "-k", "wider or rows")


@ON_EACH
def test_a_migration_that_is_edited_in_place_is_seen(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
def test_roles():
    assert session.scalars(text("SELECT name FROM roles ORDER BY id")).all() == ["reader", "writer"]
""",
    )
    assert "1 passed" in suite(project, url, path)
    migration = project / "migrations" / "versions" / "0002_more.py"

    migration.write_text(migration.read_text().replace('"writer"', '"author"'))

    assert "author" in suite(project, url, path, ok=False)

    (migration.parent.parent / "words.py").write_text("from app.words import WORD\n")
    word = project / "app" / "words.py"
    word.write_text("WORD = 'writer'\n")
    migration.write_text("from migrations.words import WORD\n" + migration.read_text().replace('"author"', "WORD"))
    assert "1 passed" in suite(project, url, path)

    word.write_text("WORD = 'editor'\n")

    assert "editor" in suite(project, url, path, ok=False)


@ON_EACH
def test_what_a_live_server_still_answers_when_its_test_ends_is_waited_for(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
import time
from urllib.request import urlopen
import pytest

def test_is_impatient(app, live_server):
    @app.post("/slow")
    def slow():
        time.sleep(0.4)
        User(name="late", email="late").save()
        return ""

    with pytest.raises(TimeoutError):
        urlopen(f"{live_server}/slow", data=b"", timeout=0.1)

def test_is_clean():
    time.sleep(0.6)
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 0
""",
    )

    assert "2 passed" in suite(project, url, path)


@ON_EACH
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_that_a_test_starts_uses_its_database(project: Path, url: str, method: str) -> None:
    path = write_test(
        project,
        f"""
import multiprocessing

def write():
    User(name="x", email="x").save()
    session.commit()

def test_row():
    process = multiprocessing.get_context("{method}").Process(target=write)
    process.start()
    process.join()

    assert process.exitcode == 0
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 1
""",
    )

    assert "1 passed" in suite(project, url, path)


@ON_EACH
def test_a_process_that_a_fixture_starts_uses_its_database(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
import multiprocessing
import pytest

def write():
    User(name="Bob", email="bob@example.com").save()
    session.commit()

@pytest.fixture
def written():
    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join()
    assert process.exitcode == 0

@pytest.mark.parametrize("number", range(3))
def test_finds_it(number, written):
    assert session.scalars(text("SELECT id FROM users")).all() == [1]
    session.commit()
""",
    )

    assert "3 passed" in suite(project, url, path)


@ON_EACH
def test_two_runs_at_the_same_time_do_not_meet(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
import time, pytest

@pytest.mark.parametrize("number", range(40))
def test_row(number, client):
    assert User(name="Ada", email="ada@example.com").save().id == 1
    session.commit()
    time.sleep(0.02)
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 1
""",
    )
    command = [str(PYTHON), "-m", "pytest", "-q", path]

    runs = [
        subprocess.Popen(
            command, cwd=project, env=environment(TEST_DATABASE_URL=url), stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    for started in runs:
        told = started.communicate(timeout=60)[0]
        assert "40 passed" in told, told


@pytest.mark.parametrize("server", ["sqlite"])
def test_a_cache_that_cannot_be_written_is_done_without(bake: Bake, url: str) -> None:
    project = bake()
    cache = project / ".pytest_cache"
    suite(project, url, "tests/test_db.py")
    for image in cache.rglob("*.image"):
        image.unlink()
    folders = [cache, *(path for path in cache.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    # Root may write everywhere, unless it gives that up.
    as_others = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    for path in (".pytest_cache", "/proc/none"):
        command: tuple[str | Path, ...] = (
            *as_others,
            PYTHON,
            "-m",
            "pytest",
            "-q",
            "-o",
            f"cache_dir={path}",
            "tests/test_db.py",
        )

        assert " passed" in run(*command, cwd=project).stdout
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.parametrize("server", ["sqlite"])
def test_a_file_that_is_spoilt_before_anything_is_written_is_seen(project: Path, url: str) -> None:
    path = write_test(
        project,
        """
def test_spoils():
    with open(engine.url.database, "wb") as file:
        file.write(b"x" * 50_000)

def test_is_clean():
    User(name="Ada", email="ada@example.com").save()
    session.commit()
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 1
""",
    )

    assert "2 passed" in suite(project, url, path)


OF_EVERY_TEST = """

@pytest.fixture(autouse=True)
def arrange():  # a name that comes before `fresh_database`
    from app.models import User

    User(name="arranged", email="arranged").save()
    app_db.session.commit()
    yield
    User(name="left", email="left").save()
    app_db.session.commit()
"""


@pytest.mark.parametrize("server", ["sqlite"])
def test_the_fresh_database_comes_before_every_other_fixture_of_a_test(bake: Bake, url: str) -> None:
    project = bake()
    with (project / "tests" / "conftest.py").open("a") as conftest:
        conftest.write(OF_EVERY_TEST)
    path = write_test(
        project,
        """
import pytest

@pytest.fixture(scope="module")
def wide():
    User(name="wide", email="wide").save()
    session.commit()

def names():
    return session.scalars(text("SELECT name FROM users")).all()

@pytest.mark.parametrize("number", range(2))
def test_finds_what_is_arranged(number):
    assert names() == ["arranged"]

def test_finds_it_after_a_wider_fixture_too(wide):
    assert names() == ["arranged"]
""",
    )

    assert "3 passed" in suite(project, url, path)


@pytest.mark.parametrize("server", ["sqlite"])
def test_a_result_that_a_test_has_not_read_harms_no_other_test(bake: Bake, url: str) -> None:
    project = bake()
    path = write_test(
        project,
        """
import pytest
from app.db import session_factory

kept = []

def read_half():
    for number in range(300):
        session.add(User(name=f"{number}", email=f"{number}"))
    session.commit()
    with session_factory() as own:
        result = iter(own.execute(text("SELECT id, name, email FROM users")))
        next(result)
        return result

def write():
    assert session.scalar(text("SELECT COUNT(*) FROM users")) == 0
    User(name="Ada", email="ada").save()
    session.commit()

def test_fails():
    result = read_half()
    raise ValueError

def test_after_that():
    write()

def test_is_skipped():
    result = read_half()
    pytest.skip("not here")

def test_then():
    write()

@pytest.mark.xfail
def test_is_known():
    result = read_half()
    raise ValueError

def test_next():
    write()

def test_keeps_it():
    kept.append(read_half())

def test_last():
    write()
""",
    )

    assert "1 failed, 5 passed, 1 skipped, 1 xfailed" in suite(project, url, path, ok=False)


@pytest.mark.parametrize("server", ["sqlite"])
def test_the_files_of_a_run_end_with_it(bake: Bake, url: str, tmp_path: Path) -> None:
    project, temporary = bake(), tmp_path / "temporary"
    temporary.mkdir()
    path = write_test(
        project,
        """
import atexit

def test_forks():
    child = os.fork()
    if child == 0:
        atexit._run_exitfuncs()
        os._exit(0)
    os.waitpid(child, 0)
    assert os.path.exists(engine.url.database)
""",
    )
    command = [str(PYTHON), "-m", "pytest", "-q", "-p", "no:xdist", path]

    told = run(*command, cwd=project, variables={"TEST_DATABASE_URL": url, "TMPDIR": str(temporary)}).stdout

    assert "1 passed" in told
    assert list(temporary.iterdir()) == []


def one_message(told: str) -> str:
    """Return what a run that cannot start has said, and check that it is short."""
    lines = [
        line for line in told.splitlines() if (line.strip() and "Exit: " not in line[:30]) or line.startswith("Exit: ")
    ]
    assert len(lines) <= 3, told
    return told


@ON_EACH
def test_without_migrations_it_says_so_once(bake: Bake, url: str) -> None:
    project = bake()
    (project / "migrations" / "versions" / "0001_create_users.py").unlink()

    assert "There are no migrations" in one_message(suite(project, url, ok=False))


@ON_EACH
def test_a_migration_that_fails_is_told_once(project: Path, url: str) -> None:
    migration = project / "migrations" / "versions" / "0002_more.py"
    migration.write_text(
        migration.read_text().replace("    roles = op", '    raise LookupError("no luck")\n    roles = op')
    )

    assert "`alembic upgrade head` fails: LookupError: no luck" in one_message(suite(project, url, ok=False))


@ON_EACH
def test_two_newest_migrations_are_told_once(project: Path, url: str) -> None:
    migration = project / "migrations" / "versions" / "0002_more.py"
    (migration.parent / "0003.py").write_text(migration.read_text().replace('"0002"', '"0003"'))

    assert "Multiple head revisions" in one_message(suite(project, url, ok=False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("postgresql://postgres@127.0.0.1:1/shop_test", "cannot be used: connection failed"),
        ("mariadb://root@127.0.0.1:1/shop_test", "cannot be used: (2003"),
        ("postgresql://somebody:secret@127.0.0.1/shop", "put `test` in its name"),
        ("sqlite:///app.sqlite3", "is not for tests"),
        ("mysq://root@127.0.0.1/shop_test", "is not for tests"),
        ("shop_test", "is not a URL"),
        ("postgresql://somebody:secret@127.0.0.1:port/shop_test", "is not a URL"),
        ("postgresql://postgres@127.0.0.1/shop%20test", "letters, digits"),
        ("postgresql+asyncpg://postgres@127.0.0.1/shop_test", "is not for tests"),
    ],
)
def test_a_database_that_cannot_be_used_is_told_in_a_line(bake: Bake, text: str, message: str) -> None:
    told = run(PYTHON, "-m", "pytest", "-n", "2", cwd=bake(), ok=False, variables={"TEST_DATABASE_URL": text}).stderr

    assert message in told
    assert "secret" not in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize("kind", ["postgresql", "mariadb"])
def test_a_server_that_says_nothing_is_told_in_a_line(bake: Bake, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"{kind}://somebody@127.0.0.1:{silent.getsockname()[1]}/shop_test"
        told = run(PYTHON, "-m", "pytest", cwd=bake(), ok=False, variables={"TEST_DATABASE_URL": url}).stderr

    assert "cannot be used: " in told
    assert len(told.splitlines()) == 1


@pytest.mark.parametrize(
    ("module", "package", "text"),
    [
        ("psycopg", "psycopg[binary]", "postgresql://postgres@127.0.0.1/shop_test"),
        ("pymysql", "pymysql", "mariadb://root@127.0.0.1/shop_test"),
    ],
)
def test_a_missing_driver_is_told_in_a_line(bake: Bake, module: str, package: str, text: str) -> None:
    without = f"import sys; sys.modules[{module!r}] = None; import pytest; sys.exit(pytest.main([]))"

    told = run(PYTHON, "-c", without, cwd=bake(), ok=False, variables={"TEST_DATABASE_URL": text}).stderr

    assert f"needs the driver {package}, which is not installed: add it to" in told
    assert len(told.splitlines()) == 1


@ON_SERVERS
def test_a_wrong_password_is_told_in_a_line(bake: Bake, url: str) -> None:
    wrong = make_url(url).set(username="nobody", password="secret").render_as_string(hide_password=False)

    told = run(PYTHON, "-m", "pytest", cwd=bake(), ok=False, variables={"TEST_DATABASE_URL": wrong}).stderr

    assert "cannot be used: " in told
    assert "secret" not in told
    assert len(told.splitlines()) == 1


@ON_SERVERS
@pytest.mark.parametrize("suffix", ["", "_main"], ids=["the one that is named", "the one that would be made"])
def test_a_database_that_others_have_made_is_left_alone(bake: Bake, url: str, server: str, suffix: str) -> None:
    foreign = make_url(url).set(database=f"{make_url(url).database}{suffix}")
    administrator = create_engine(ADMINISTRATORS[server], isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {foreign.database}")
    administrator.dispose()
    engine = create_engine(foreign)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE users (name VARCHAR(50))")
        connection.exec_driver_sql("INSERT INTO users VALUES ('real')")

    done = run(PYTHON, "-m", "pytest", cwd=bake(), ok=False, variables={"TEST_DATABASE_URL": url})

    assert re.search(r"names a database with tables|was not made by the tests", done.stdout + done.stderr)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("SELECT * FROM users").all() == [("real",)]
    engine.dispose()


@pytest.mark.parametrize("server", ["mariadb"])
def test_the_second_database_is_no_sign_that_the_first_is_ours(bake: Bake, url: str, server: str) -> None:
    project, name = bake(), make_url(url).database
    assert " passed" in suite(project, url, "tests/test_pages.py")
    engine = create_engine(ADMINISTRATORS[server], isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE {name}_main")
        connection.exec_driver_sql(f"CREATE DATABASE {name}_main")
        connection.exec_driver_sql(f"CREATE TABLE {name}_main.mine (id INTEGER)")

        assert "was not made by the tests" in suite(project, url, ok=False)

        connection.exec_driver_sql(f"SELECT * FROM {name}_main.mine")
    engine.dispose()


MISTAKES = {
    "test_each_downgrade_undoes_its_upgrade": ("migrations/versions/0002_more.py", '("roles", "twos"', '("twos"'),
    "test_no_upgrade_loses_a_row": (
        "migrations/versions/0002_more.py",
        '    op.create_table("parents"',
        '    op.execute("DELETE FROM users")\n    op.create_table("parents"',
    ),
}


@ON_EACH
def test_mistakes_in_migrations_are_found(project: Path, url: str) -> None:
    tests = "tests/test_migrations.py"
    assert " passed" in suite(project, url, tests, "-k", "not has_a_migration")
    for test, (name, right, wrong) in MISTAKES.items():
        text = (project / name).read_text()
        assert right in text

        (project / name).write_text(text.replace(right, wrong, 1))

        assert f"FAILED {tests}::{test} " in suite(project, url, tests, ok=False)
        (project / name).write_text(text)


@ON_EACH
def test_a_model_without_a_migration_is_found(bake: Bake, url: str) -> None:
    project, test = bake(), "tests/test_migrations.py::test_every_model_has_a_migration"
    assert "1 passed" in suite(project, url, test)
    with (project / "app" / "models.py").open("a") as models:
        models.write(
            '\n\nclass New(Base):\n    __tablename__ = "new"\n    id: Mapped[int] = mapped_column(primary_key=True)\n'
        )

    assert f"FAILED {test} " in suite(project, url, test, ok=False)
