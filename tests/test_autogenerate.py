"""Tests of `make migration`: a changed model becomes a migration that runs on a table with rows, without an edit."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine

from tests.commands import PYTHON, run, run_module
from tests.conftest import Bake
from tests.servers import database_on

ALEMBIC = (PYTHON, "-m", "alembic")
WRITE = (*ALEMBIC, "revision", "--autogenerate", "-m", "Add a column")

OWN_TYPES = '''
from app.columns import UTCDateTime


class State(enum.Enum):
    """What a user may be."""

    NEW = "new"
    OLD = "old"


class Code(String):
    """A short text."""


class Seen(TypeDecorator[datetime]):
    """A time that somebody was seen."""

    impl = UTCDateTime
    cache_ok = True


'''


@pytest.fixture(scope="module")
def databases() -> list[bytes]:
    """The database of the first project, as soon as it is migrated: that of the others is the same."""
    return []


@pytest.fixture
def project(bake: Bake, databases: list[bytes]) -> Path:
    """A project whose database has a user."""
    project = bake()
    file = project / "app.sqlite3"
    if not databases:
        run(*ALEMBIC, "upgrade", "head", cwd=project)
        with closing(sqlite3.connect(file)) as database, database:
            database.execute(
                "INSERT INTO users (name, email, created_at) VALUES ('Ada', 'a@b', '2026-01-01 00:00:00.000000')"
            )
        databases.append(file.read_bytes())
    file.write_bytes(databases[0])
    return project


@contextmanager
def closing_engine(url: str) -> Iterator[Engine]:
    """Make an engine whose connections are closed after the block."""
    engine = create_engine(url)
    try:
        yield engine
    finally:
        engine.dispose()


def add_to_user(project: Path, column: str) -> None:
    """Add a column to `User`, as its owner would."""
    models = project / "app" / "models.py"
    models.write_text(models.read_text().replace("    created_at: ", f"    {column}\n    created_at: "))


def new_migrations(project: Path) -> list[Path]:
    """Return the migrations that were written since."""
    return [path for path in (project / "migrations" / "versions").glob("*.py") if not path.name.startswith("0001")]


@pytest.mark.parametrize(
    ("column", "name", "value"),
    [
        ("seen_at: Mapped[datetime | None]", "seen_at", None),
        ("seen_at: Mapped[datetime] = mapped_column(default=utc_now)", "seen_at", r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d"),
        ("active: Mapped[bool] = mapped_column(default=True)", "active", 1),
        ("visits: Mapped[int] = mapped_column(default=0, index=True)", "visits", 0),
        ('city: Mapped[str] = mapped_column(String(50), default="it\'s 100 %")', "city", "it's 100 %"),
        ('city: Mapped[str] = mapped_column(String(50), server_default="x")', "city", "x"),
        ("order: Mapped[int] = mapped_column(default=7)", '"order"', 7),
        ('note: Mapped[str] = mapped_column(String(50), default="a :b %s")', "note", "a :b %s"),
        ('data: Mapped[bytes] = mapped_column(default=b"x")', "data", b"x"),
        ("state: Mapped[State] = mapped_column(default=State.NEW)", "state", "NEW"),
        ('code: Mapped[str] = mapped_column(Code(8), default="c")', "code", "c"),
        ("seen_at: Mapped[datetime] = mapped_column(Seen, default=utc_now)", "seen_at", r"20\d\d-.*"),
        ('boss_id: Mapped[int | None] = mapped_column(ForeignKey("users.id"))', "boss_id", None),
    ],
    ids=[
        "time",
        "time not null",
        "bool",
        "int with index",
        "text",
        "server default",
        "reserved word",
        "text with colon",
        "bytes",
        "enum",
        "own type",
        "own type of an own type",
        "foreign key",
    ],
)
def test_a_new_column_needs_no_edit_of_its_migration(
    project: Path, column: str, name: str, value: str | bytes | int | None
) -> None:
    add_to_user(project, column)
    models = project / "app" / "models.py"
    if "ForeignKey" in column:
        models.write_text(models.read_text().replace("import MetaData", "import ForeignKey, MetaData"))
    if re.search("State|Code|Seen", column):
        models.write_text(models.read_text().replace("class User(Base)", OWN_TYPES.lstrip() + "class User(Base)", 1))
        models.write_text(models.read_text().replace("import MetaData", "import MetaData, TypeDecorator", 1))
        models.write_text(models.read_text().replace("from datetime", "import enum\nfrom datetime", 1))
        run_module("ruff", "check", "--fix", "--quiet", "--exit-zero", cwd=project)

    run(*WRITE, cwd=project)
    run(*ALEMBIC, "upgrade", "head", cwd=project)

    run(*ALEMBIC, "check", cwd=project)
    with closing(sqlite3.connect(project / "app.sqlite3")) as database:
        ((user, new),) = database.execute(f"SELECT name, {name} FROM users")
    assert user == "Ada"
    assert re.fullmatch(value, new) if name == "seen_at" and isinstance(value, str) else new == value
    (migration,) = new_migrations(project)
    assert "app." not in migration.read_text()
    run_module("ruff", "check", "migrations", cwd=project)
    run_module("ruff", "format", "--check", "migrations", cwd=project)
    run_module("pytest", "-q", "tests/test_migrations.py", cwd=project)


SHOW = """
from app.db import session
from app.models import User
user = session.get_one(User, 1)
print((user.state.name, user.price, user.weight, user.due, user.born, user.lasts, user.ratio))
"""
COLUMNS = """
    state: Mapped[State] = mapped_column(default=State.NEW)
    price: Mapped[Decimal] = mapped_column(default=Decimal("1.10"))
    weight: Mapped[float] = mapped_column(default=1.5)
    due: Mapped[time] = mapped_column(default=time(8))
    born: Mapped[date] = mapped_column(default=date(2000, 2, 29))
    lasts: Mapped[timedelta] = mapped_column(default=timedelta(days=1))
    ratio: Mapped[Decimal] = mapped_column(Numeric(30, 20), default=Decimal("0.12345678901234567891"))
"""
ADDED = (
    "NEW",
    Decimal("1.1000"),
    1.5,
    time(8),
    date(2000, 2, 29),
    timedelta(days=1),
    Decimal("0.12345678901234567891"),
)


@pytest.mark.parametrize("server", ["postgresql", "mariadb"])
def test_so_it_is_on_the_servers_there_and_back_and_a_new_member_needs_no_migration(bake: Bake, server: str) -> None:
    project = bake()
    models = project / "app" / "models.py"
    user = "INSERT INTO users (name, email, created_at) VALUES ('Ada', 'a@b', '2026-01-01 00:00:00')"
    with database_on(server) as url, closing_engine(url) as engine:
        variables = {"DATABASE_URL": url}
        run(*ALEMBIC, "upgrade", "head", cwd=project, variables=variables)
        with engine.begin() as connection:
            connection.exec_driver_sql(user)
        add_to_user(project, COLUMNS.strip())
        models.write_text(models.read_text().replace("class User(Base)", OWN_TYPES.lstrip() + "class User(Base)", 1))
        imported = "import enum\nfrom datetime import date, time, timedelta\nfrom decimal import Decimal\n"
        models.write_text(models.read_text().replace("from datetime", imported + "from datetime", 1))
        models.write_text(models.read_text().replace("import MetaData", "import MetaData, Numeric, TypeDecorator", 1))

        run(*WRITE, cwd=project, variables=variables)
        for command in (
            ["upgrade", "head"],
            ["downgrade", "-1"],
            ["upgrade", "head"],
            ["upgrade", "head", "--sql"],
            ["check"],
        ):
            run(*ALEMBIC, *command, cwd=project, variables=variables)
        found = run(PYTHON, "-c", SHOW, cwd=project, variables=variables).stdout
        models.write_text(models.read_text().replace('OLD = "old"', 'OLD = "old"\n    SOLD_AT_A_FAIR = "sold"', 1))
        run(*ALEMBIC, "check", cwd=project, variables=variables)

    assert found.strip() == repr(ADDED)


@pytest.mark.parametrize("column", ["age: Mapped[int]", "token: Mapped[str] = mapped_column(default=lambda: 'x')"])
def test_a_column_with_nothing_to_fill_it_is_refused(project: Path, column: str) -> None:
    add_to_user(project, column)

    said = run(*WRITE, cwd=project, ok=False).stderr

    assert "does not allow NULL, and there is no value for the rows that exist" in said
    assert "Traceback" not in said
    assert new_migrations(project) == []


def test_no_change_writes_no_migration(project: Path) -> None:
    said = run(*WRITE, cwd=project).stdout

    assert "there is nothing to write" in said
    assert new_migrations(project) == []


def test_the_sql_of_a_new_column_can_be_shown(project: Path) -> None:
    add_to_user(project, "visits: Mapped[int] = mapped_column(default=0)")
    run(*WRITE, cwd=project)

    server = {"DATABASE_URL": "postgresql://nobody@nowhere/nothing"}  # SQLite has to look at a table to change it
    said = run(*ALEMBIC, "upgrade", "head", "--sql", cwd=project, variables=server).stdout

    assert "CREATE TABLE users" in said
    assert "UPDATE users SET visits=0" in said
