"""Tests of the migrations: they make what the models say, each can be undone, and none loses a row."""

import os
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from alembic import command
from alembic.config import Config
from alembic.script import Script, ScriptDirectory
from sqlalchemy import Column, MetaData, Table, func, insert, inspect, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session
from sqlalchemy.schema import sort_tables_and_constraints

from app.db import engine
from tests.database import ROOT, alembic_config

BROKEN = '''"""Make a table, then fail."""

import sqlalchemy as sa
from alembic import op

revision = "broken"
down_revision = {head!r}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Fail halfway."""
    op.create_table("half", sa.Column("id", sa.Integer, primary_key=True))
    raise LookupError("halfway")
'''

VALUES: dict[type, Any] = {
    bool: True,
    bytes: b"x",
    date: date(2020, 1, 1),
    datetime: datetime(2020, 1, 1, tzinfo=UTC),
    Decimal: Decimal(1),
    dict: {},
    float: 1.0,
    int: 1,
    str: "x",
    time: time(12),
    timedelta: timedelta(1),
    UUID: UUID(int=1),
}
"""What a column of a type gets, in a row that is there only to be kept."""


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


def revisions(config: Config) -> Iterator[Script]:
    """Go to the beginning, and then return each migration from the oldest on."""
    command.downgrade(config, "base")
    yield from reversed(list(ScriptDirectory.from_config(config).walk_revisions()))


def test_every_model_has_a_migration() -> None:
    command.check(alembic_config())


def test_there_are_no_two_newest_migrations() -> None:
    assert len(ScriptDirectory.from_config(alembic_config()).get_heads()) <= 1


def test_each_downgrade_undoes_its_upgrade() -> None:
    config = alembic_config()
    for script in revisions(config):
        before = schema()
        command.upgrade(config, script.revision)
        if script.is_merge_point:  # it changes nothing
            continue
        after = schema()
        command.downgrade(config, f"{script.revision}@-1")
        assert schema() == before, f"The downgrade of {script.revision} leaves something."
        command.upgrade(config, script.revision)
        assert schema() == after


def test_no_upgrade_loses_a_row() -> None:
    config = alembic_config()
    for script in revisions(config):
        fill_tables()
        before = count_rows()
        command.upgrade(config, script.revision)
        after = count_rows()
        lost = [name for name in before.keys() & after.keys() if after[name] < before[name]]
        assert not lost, f"The upgrade to {script.revision} loses rows of {', '.join(lost)}."


@pytest.mark.skipif(engine.name in ("mysql", "mariadb"), reason="this database commits with each DDL")
def test_a_migration_that_fails_halfway_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    config = alembic_config()
    head = ScriptDirectory.from_config(config).get_current_head()
    (tmp_path / "broken.py").write_text(BROKEN.format(head=head))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", os.pathsep.join([str(ROOT / "migrations" / "versions"), str(tmp_path)]))
    before = schema()

    with pytest.raises(LookupError, match="halfway"):
        command.upgrade(config, "heads")

    assert schema() == before
    with Session(engine) as session:
        version = session.scalar(select(Table("alembic_version", MetaData(), autoload_with=session.connection())))
        assert version == head


def tables() -> list[Table]:
    """Return the tables of the database, parents first."""
    metadata = MetaData()
    metadata.reflect(engine)
    sort: Any = sort_tables_and_constraints  # it has no types
    in_order = [table for table, _ in sort(metadata.tables.values())]
    return [table for table in in_order if table is not None and table.name != "alembic_version"]


def count_rows() -> dict[str, int]:
    """Return how many rows each table has."""
    with Session(engine) as session:
        return {table.name: session.scalars(select(func.count()).select_from(table)).one() for table in tables()}


def fill_tables() -> None:
    """Put a row in each table that is empty, if one can be invented: a CHECK, for example, may know better."""
    counts = count_rows()
    with Session(engine) as session:
        for table in tables():
            if counts[table.name] == 0:
                with suppress(SQLAlchemyError, NotImplementedError), session.begin_nested():
                    session.execute(insert(table).values(invented_row(table, session)))
        session.commit()


def invented_row(table: Table, session: Session) -> dict[str, Any]:
    """Return a value for each column; one that refers to another table gets what is there."""
    return {column.name: invented_value(column, session) for column in table.columns if column.computed is None}


def invented_value(column: Column[Any], session: Session) -> Any:
    """Return a value for a column."""
    for key in column.foreign_keys:
        return session.scalar(select(key.column))
    enums = getattr(column.type, "enums", None)
    return enums[0] if enums else VALUES.get(column.type.python_type)
