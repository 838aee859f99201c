"""What `make migration` writes differently from plain Alembic: edit only if you want it to write something else."""

from collections.abc import Iterable
from datetime import date, time
from decimal import Decimal
from typing import Any, Literal

import sqlalchemy
from alembic import context
from alembic.autogenerate import renderers
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _repr_type
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Boolean, Column, Date, DateTime, Enum, Float, Integer, MetaData, Numeric, String, TypeDecorator
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.sql.schema import CallableColumnDefault, ScalarElementColumnDefault
from sqlalchemy.types import TypeEngine


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write a column type of the app as the SQLAlchemy type under it.

    A migration must run for years, so it must not depend on code of the app that changes.
    """
    if kind != "type" or _is_of_sqlalchemy(type(item)):
        return False
    plain = _underlying(item)
    return False if plain is item else _repr_type(plain, autogen_context)


def edit_migration(
    _context: MigrationContext, _revision: str | Iterable[str | None], directives: list[ops.MigrationScript]
) -> None:
    """Let a NOT NULL column be added to a table with rows, and write no file when nothing has changed.

    :raises alembic.util.CommandError: for a NOT NULL column without a default to fill it with.
    """
    for script in list(directives):
        operations = script.upgrade_ops
        if operations is None:
            continue
        operations.ops = [new for op in operations.ops for new in _with_fill(op)]
        if operations.is_empty() and getattr(context.config.cmd_opts, "autogenerate", False):
            directives.remove(script)
            context.config.print_stdout("The models and the migrations agree: there is nothing to write.")


class FillColumnOp(ops.MigrateOperation):
    """Give a new column a value in the rows that exist."""

    def __init__(self, table: str, schema: str | None, column: Column[Any]) -> None:
        """Take the value from the default of the column."""
        self.table, self.schema = table, schema
        self.column = repr(column.name) + _kind_in_python(column)
        self.assignment = f"{column.name!r}: {_default_in_python(column)}"


@renderers.dispatch_for(FillColumnOp)
def render_fill(_autogen_context: AutogenContext, op: FillColumnOp) -> str:
    """Write an UPDATE that quotes its names and converts its value as each database needs it."""
    schema = f", schema={op.schema!r}" if op.schema else ""
    table = f"sa.table({op.table!r}, sa.column({op.column}){schema})"
    return f"op.execute({table}.update().values(" + "{" + op.assignment + "}))"


def _with_fill(op: ops.MigrateOperation) -> list[ops.MigrateOperation]:
    """Return `op`, or the steps that replace it if it adds NOT NULL columns: add, fill with the default, forbid NULL."""
    if not isinstance(op, ops.ModifyTableOps):
        return [op]
    fills: list[ops.MigrateOperation] = []
    constraints: list[ops.MigrateOperation] = []
    for add in op.ops:
        if isinstance(add, ops.AddColumnOp) and not add.column.nullable and add.column.server_default is None:
            column = add.column
            fills.append(FillColumnOp(op.table_name, op.schema, column))
            constraints.append(
                ops.AlterColumnOp(
                    op.table_name, column.name, schema=op.schema, existing_type=column.type, modify_nullable=False
                )
            )
            # A copy: the column in `add` is that of the model.
            add.column = column.table.to_metadata(MetaData()).columns[column.name]
            add.column.nullable = True
    return [op, *fills, ops.ModifyTableOps(op.table_name, constraints, schema=op.schema)] if fills else [op]


def _kind_in_python(column: Column[Any]) -> str:
    """Return the type that lets `alembic upgrade --sql` write the value, for what looks the same in any SQL."""
    plain = _underlying(column.type)
    if isinstance(plain, Enum):
        return "" if plain.native_enum else ", sa.String()"
    writable = isinstance(plain, Boolean | Integer | Float | Numeric | String)
    return f", sa.{type(plain).__name__}()" if writable and hasattr(sqlalchemy, type(plain).__name__) else ""


def _default_in_python(column: Column[Any]) -> str:
    """Return the default of a new column as the Python that a migration binds."""
    default = column.default
    plain = _underlying(column.type)
    if isinstance(default, CallableColumnDefault) and isinstance(plain, DateTime | Date):
        return "sa.func.current_timestamp()" if isinstance(plain, DateTime) else "sa.func.current_date()"
    if isinstance(default, ScalarElementColumnDefault):
        if isinstance(default.arg, Decimal):
            return repr(str(default.arg))  # a float has fewer digits
        if type(default.arg) in (date, time):
            exact = ("microseconds",) if type(default.arg) is time else ()  # as SQLite compares them
            return f"""sa.literal_column("'{default.arg.isoformat(*exact)}'")"""
        to_database = None if isinstance(plain, Boolean) else column.type.bind_processor(DefaultDialect())
        value = to_database(default.arg) if to_database else default.arg
        if isinstance(value, bool | int | float | str | bytes):
            return repr(value)
    raise CommandError(
        f"{column.table.name}.{column.name} does not allow NULL, and there is no value for the rows that exist:"
        f" give it a constant default, such as mapped_column(default=...), or allow None."
    )


def _underlying(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    """Return the type of SQLAlchemy that a type of the app decorates or extends."""
    while isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    for base in type(kind).__mro__:
        if _is_of_sqlalchemy(base):
            return kind if base is type(kind) or not issubclass(base, TypeEngine) else kind.adapt(base)
    return kind


def _is_of_sqlalchemy(kind: type) -> bool:
    """Return whether a class is part of SQLAlchemy."""
    return kind.__module__.startswith("sqlalchemy.")
