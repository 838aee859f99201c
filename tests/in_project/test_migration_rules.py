"""The rules of the migrations: what a batch migration keeps, and what a failing one leaves."""

import shutil

import pytest
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from app.config import ROOT
from app.db import engine, session_factory
from sqlalchemy import inspect, text
from sqlalchemy.exc import IntegrityError
from tests.database import alembic_config

CHILDREN = """
    op.create_table("parents", sa.Column("id", sa.Integer, primary_key=True), sa.Column("name", sa.String(9)))
    for rule in ("CASCADE", "RESTRICT"):
        op.create_table(
            f"{rule.lower()}_children",
            sa.Column("id", sa.Integer, primary_key=True),
            sa.Column("parent_id", sa.Integer, sa.ForeignKey("parents.id", ondelete=rule, name=f"fk_{rule}"), nullable=False),
        )
    op.execute("INSERT INTO parents VALUES (1, 'one')")
    op.execute("INSERT INTO cascade_children VALUES (1, 1)")
    op.execute("INSERT INTO restrict_children VALUES (1, 1)")
"""


@pytest.fixture
def config():
    """The configuration of Alembic, in a project that gets its migrations back after the test."""
    versions = ROOT / "migrations" / "versions"
    before = set(versions.glob("*.py"))
    yield alembic_config()
    for path in set(versions.glob("*.py")) - before:
        path.unlink()
    shutil.rmtree(versions / "__pycache__", ignore_errors=True)


def write_migration(revision: str, after: str, upgrade: str, downgrade: str = "    pass") -> None:
    """Write a migration by hand."""
    (ROOT / "migrations" / "versions" / f"{revision}.py").write_text(
        f'"""{revision}."""\nimport sqlalchemy as sa\nfrom alembic import op\n'
        f"revision = {revision!r}\ndown_revision = {after!r}\nbranch_labels = None\ndepends_on = None\n"
        f"def upgrade():\n{upgrade}\ndef downgrade():\n{downgrade}\n"
    )


def rows(sql: str) -> list[tuple]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql))]


def test_a_batch_migration_of_a_parent_keeps_its_children(config: Config) -> None:
    write_migration("a1", "0001", CHILDREN)
    write_migration(
        "a2",
        "a1",
        '    with op.batch_alter_table("parents") as batch_op:\n'
        '        batch_op.alter_column("name", existing_type=sa.String(9), type_=sa.String(50), nullable=False)\n',
    )

    command.upgrade(config, "head")

    assert rows("SELECT * FROM parents") == [(1, "one")]
    assert rows("SELECT * FROM cascade_children") == [(1, 1)]
    assert rows("SELECT * FROM restrict_children") == [(1, 1)]
    with engine.connect() as connection:
        assert connection.scalar(text("PRAGMA foreign_keys")) == 1
        with pytest.raises(IntegrityError):
            connection.execute(text("DELETE FROM parents"))


def test_a_migration_that_leaves_orphans_is_rolled_back(config: Config) -> None:
    write_migration("a1", "0001", CHILDREN)
    write_migration("a2", "a1", "    op.execute('DELETE FROM parents')")
    command.upgrade(config, "a1")

    with pytest.raises(CommandError, match="rows of cascade_children without their parents, restrict_children"):
        command.upgrade(config, "head")

    assert rows("SELECT version_num FROM alembic_version") == [("a1",)]
    assert rows("SELECT count(*) FROM parents") == [(1,)]


def test_a_migration_that_fails_halfway_leaves_the_database_as_it_was(config: Config) -> None:
    write_migration("a1", "0001", "    op.create_table('whole', sa.Column('id', sa.Integer))")
    write_migration(
        "a2",
        "a1",
        "    op.create_table('half', sa.Column('id', sa.Integer))\n    op.execute('INSERT INTO nowhere VALUES (1)')",
    )

    with pytest.raises(Exception, match="no such table: nowhere"):
        command.upgrade(config, "head")

    assert not inspect(engine).has_table("whole")
    assert not inspect(engine).has_table("half")
    assert rows("SELECT version_num FROM alembic_version") == [("0001",)]


def test_an_old_migration_that_fails_takes_no_connection_with_it(config: Config) -> None:
    write_migration("a1", "0001", "    op.execute('nonsense')")

    with pytest.raises(Exception, match="syntax error"):
        command.upgrade(config, "head")

    with session_factory() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
    assert engine.pool.checkedout() == 0


def test_a_check_leaves_foreign_keys_on(config: Config) -> None:
    command.check(config)

    with session_factory() as session:
        assert session.scalar(text("PRAGMA foreign_keys")) == 1


def test_sql_can_be_shown_without_a_database_and_is_a_transaction(
    config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    command.upgrade(config, "head", sql=True)

    sql = capsys.readouterr().out
    assert sql.index("BEGIN") < sql.index("CREATE TABLE users") < sql.index("COMMIT")
