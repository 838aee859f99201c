"""Tests of the migrations: they make what the models say, and each can be undone."""

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import inspect

from app.db import engine
from tests.database import alembic_config


def schema() -> dict[str, list[str]]:
    """Return what the database knows of each table: columns, keys, indexes and constraints."""
    found = inspect(engine)
    parts = (
        found.get_columns,
        found.get_indexes,
        found.get_unique_constraints,
        found.get_foreign_keys,
        found.get_check_constraints,
        lambda table: [found.get_pk_constraint(table)],
    )
    tables = [table for table in found.get_table_names() if table != "alembic_version"]
    return {table: sorted(str(item) for part in parts for item in part(table)) for table in tables}


def test_every_model_has_a_migration() -> None:
    command.check(alembic_config())


def test_there_are_no_two_newest_migrations() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) <= 1


def test_each_downgrade_undoes_its_upgrade() -> None:
    config = alembic_config()
    command.downgrade(config, "base")
    assert schema() == {}

    for revision in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        before = schema()
        command.upgrade(config, revision.revision)
        after = schema()
        command.downgrade(config, "-1")
        assert schema() == before, f"The downgrade of {revision.path} leaves something."
        command.upgrade(config, revision.revision)
        assert schema() == after
