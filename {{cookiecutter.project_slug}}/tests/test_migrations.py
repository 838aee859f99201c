"""Tests of the migrations: they make what the models say, and each can be undone."""

from alembic import command
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, text

from app.db import engine
from tests.database import alembic_config


def schema() -> dict[str, str]:
    """Return the SQL that made each table and index."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
        return {name: sql for name, sql in rows if name != "alembic_version"}


def test_every_model_has_a_migration() -> None:
    command.check(alembic_config())


def test_there_is_one_newest_migration() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) == 1


def test_each_downgrade_undoes_its_upgrade() -> None:
    config = alembic_config()
    command.downgrade(config, "base")
    found = MetaData()
    found.reflect(engine)
    assert set(found.tables) == {"alembic_version"}

    for revision in reversed(list(ScriptDirectory.from_config(config).walk_revisions())):
        before = schema()
        command.upgrade(config, revision.revision)
        after = schema()
        command.downgrade(config, "-1")
        assert schema() == before, f"The downgrade of {revision.path} leaves something."
        command.upgrade(config, revision.revision)
        assert schema() == after
