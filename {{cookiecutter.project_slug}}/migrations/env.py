"""Run the migrations on the app's engine, against the app's models: edit only if you need a second database."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from alembic import context
from alembic.util import CommandError
from click import ClickException
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from migrations.autogenerate import edit_migration, render_item

try:
    from app.db import engine
    from app.models import Base
except ClickException as error:  # a setting that cannot work
    raise CommandError(error.message) from None

SQLITE = engine.dialect.name == "sqlite"
PATIENCE = 3600
"""How long to wait for another process that migrates the same database, in seconds."""


def connect() -> Connection:
    """Return a connection to the database.

    :raises alembic.util.CommandError: in one line, if there is none to be had.
    """
    try:
        return engine.connect()
    except DBAPIError as error:
        shown = engine.url.set(query={}).render_as_string()  # the query may hold a password
        reason = str(error.orig).partition("\n")[0]
        raise CommandError(f"{shown} cannot be used: {reason}: start it, or correct DATABASE_URL.") from error


@contextmanager
def foreign_keys_off(connection: Connection) -> Iterator[None]:
    """Let SQLite recreate a table: with the pragma on, dropping the old one deletes its children by CASCADE."""
    if not SQLITE:
        yield
        return
    # Not through SQLAlchemy, which would begin: inside a transaction the pragma does nothing.
    sqlite: Any = connection.connection.driver_connection
    sqlite.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        connection.rollback()
        sqlite.execute("PRAGMA foreign_keys = ON")


@contextmanager
def locked(connection: Connection) -> Iterator[None]:
    """Let one process after the other migrate a database: who comes later reads the version that the first has left.

    :raises alembic.util.CommandError: if the other one takes longer than `PATIENCE`.
    """
    if SQLITE:  # BEGIN IMMEDIATE is the lock
        before = connection.exec_driver_sql("PRAGMA busy_timeout").scalar()
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {PATIENCE * 1000}")
        connection.rollback()
        try:
            yield
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {before}")
        return
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{PATIENCE}s'")
        take, release = "SELECT pg_advisory_lock(7310580)", "SELECT pg_advisory_unlock(7310580)"
    else:  # the names of locks are those of the whole server
        name = "SUBSTRING(CONCAT('migrations of ', DATABASE()), 1, 64)"
        take, release = f"SELECT GET_LOCK({name}, {PATIENCE})", f"SELECT RELEASE_LOCK({name})"
    if connection.exec_driver_sql(take).scalar() == 0:
        raise CommandError(f"Another process has been migrating this database for {PATIENCE} seconds.")
    connection.commit()  # the version must be read in a transaction that begins after the lock
    try:
        yield
    finally:
        connection.rollback()
        connection.exec_driver_sql(release)
        connection.commit()


def check_foreign_keys(*_: Any, **__: Any) -> None:
    """Refuse to commit a migration that leaves rows without their parent.

    :raises alembic.util.CommandError: with the tables, when there are such rows.
    """
    if SQLITE and not context.is_offline_mode():
        orphans = {(row.table, row.parent) for row in context.get_bind().exec_driver_sql("PRAGMA foreign_key_check")}
        if orphans:
            pairs = ", ".join(f"{table} without their {parent}" for table, parent in sorted(orphans))
            raise CommandError(f"The migration leaves rows of {pairs}. It was rolled back.")


def run_migrations(**target: Any) -> None:
    """Run the migrations, each in a transaction of its own, or all in one that holds the lock of SQLite."""
    context.configure(
        **target,
        target_metadata=Base.metadata,
        # SQLite can change little in place: Alembic makes a new table and moves the rows over.
        render_as_batch=True,
        render_item=render_item,
        process_revision_directives=edit_migration,
        on_version_apply=check_foreign_keys,
        # Alembic expects of SQLite that DDL does not roll back; with the app's BEGIN it does.
        transactional_ddl=True if SQLITE else None,
        transaction_per_migration=not SQLITE,
    )
    with context.begin_transaction():
        context.run_migrations()


if context.config.cmd_opts is not None:  # the command line: show each step
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alembic.runtime.migration").setLevel(logging.INFO)

if context.is_offline_mode():
    run_migrations(dialect_name=engine.dialect.name, literal_binds=True)
else:
    with connect() as connection, foreign_keys_off(connection):
        connection.execution_options(sqlite_begin="IMMEDIATE")
        with locked(connection):
            run_migrations(connection=connection)
