"""What `make migration` writes differently from plain Alembic: edit only if you want it to write something else."""

from collections.abc import Iterable
from typing import Any, Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from alembic.autogenerate.render import _repr_type
from alembic.operations import ops
from alembic.runtime.migration import MigrationContext
from alembic.util import CommandError
from sqlalchemy import Column, Date, DateTime, MetaData, TypeDecorator, literal
from sqlalchemy.exc import CompileError
from sqlalchemy.sql.schema import CallableColumnDefault, ScalarElementColumnDefault


def render_item(kind: str, item: Any, autogen_context: AutogenContext) -> str | Literal[False]:
    """Write a column type of the app as the SQLAlchemy type under it.

    A migration must run for years, so it must not depend on code of the app that changes.
    """
    if kind == "type" and isinstance(item, TypeDecorator) and not type(item).__module__.startswith("sqlalchemy."):
        return _repr_type(item.impl_instance, autogen_context)
    return False


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


def _with_fill(op: ops.MigrateOperation) -> list[ops.MigrateOperation]:
    """Return `op`, or the steps that replace it if it adds NOT NULL columns: add, fill with the default, forbid NULL."""
    if not isinstance(op, ops.ModifyTableOps):
        return [op]
    fills: list[ops.MigrateOperation] = []
    constraints: list[ops.MigrateOperation] = []
    for add in op.ops:
        if isinstance(add, ops.AddColumnOp) and not add.column.nullable and add.column.server_default is None:
            column = add.column
            fill = f"UPDATE {op.table_name} SET {column.name} = {_default_in_sql(column)}"  # noqa: S608 (own names)
            fills.append(ops.ExecuteSQLOp(fill))
            constraints.append(
                ops.AlterColumnOp(
                    op.table_name, column.name, schema=op.schema, existing_type=column.type, modify_nullable=False
                )
            )
            # A copy: the column in `add` is that of the model.
            add.column = column.table.to_metadata(MetaData()).columns[column.name]
            add.column.nullable = True
    return [op, *fills, ops.ModifyTableOps(op.table_name, constraints, schema=op.schema)] if fills else [op]


def _default_in_sql(column: Column[Any]) -> str:
    """Return the default of a new column as SQL that every database understands."""
    default = column.default
    kind = column.type.impl_instance if isinstance(column.type, TypeDecorator) else column.type
    if isinstance(default, CallableColumnDefault) and isinstance(kind, DateTime | Date):
        return "CURRENT_TIMESTAMP" if isinstance(kind, DateTime) else "CURRENT_DATE"
    if isinstance(default, ScalarElementColumnDefault):
        if isinstance(default.arg, bool):
            return str(default.arg).upper()
        try:
            return str(literal(default.arg, column.type).compile(compile_kwargs={"literal_binds": True}))
        except CompileError:
            pass
    raise CommandError(
        f"{column.table.name}.{column.name} does not allow NULL, and there is no value for the rows that exist:"
        f" give it a constant default, such as mapped_column(default=...), or allow None."
    )
