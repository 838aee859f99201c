"""What an error of the database tells the client: edit only to tell it more, or for another database."""

import re
from collections.abc import Iterator

from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import Conflict, HTTPException, ServiceUnavailable, UnprocessableEntity

from app.models import Base

# The codes of SQLite (https://www.sqlite.org/rescode.html), PostgreSQL (its appendix A), and MySQL and MariaDB.
UNIQUE = {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID", "23505", 1062}
FOREIGN_KEY = {"SQLITE_CONSTRAINT_FOREIGNKEY", "23503", "23001", 1451, 1452}
CHECK = {"SQLITE_CONSTRAINT_CHECK", "23514", 3819, 4025}
BUSY_SQLITE = {"SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_BUSY_RECOVERY", "SQLITE_LOCKED"}
BUSY_SERVER = {"40001", "40P01", "55P03", "53300", 1020, 1040, 1205, 1213}


class FieldsTaken(Conflict):
    """409: another row has these values already."""

    def __init__(self, fields: list[str]) -> None:
        """Name the fields that have to be unique."""
        super().__init__(f"{' and '.join(fields)}: already taken." if fields else "This is already there.")
        self.errors = [{"field": field, "message": "already taken"} for field in fields]


def http_error(error: Exception) -> HTTPException | None:
    """Return the HTTP error that tells the client what to do; None for a mistake of the app."""
    if isinstance(error, PoolTimeoutError):
        return ServiceUnavailable("Every connection to the database is in use. Try again.", retry_after=1)
    if not isinstance(error, DBAPIError):
        return None
    code = _code(error)
    if code in UNIQUE:
        return FieldsTaken(list(_fields(error)))
    if code in FOREIGN_KEY:
        return Conflict("This names something that does not exist, or removes something that is still in use.")
    if code in CHECK or isinstance(error, DataError):
        return UnprocessableEntity("The database does not accept one of the values.")
    if code in BUSY_SQLITE | BUSY_SERVER:
        return ServiceUnavailable("The database is busy. Try again.", retry_after=1)
    not_connected = error.connection_invalidated or error.statement is None
    if isinstance(error, OperationalError | InterfaceError) and not_connected:
        return ServiceUnavailable("The database cannot be reached. Try again later.", retry_after=5)
    return None


def _code(error: DBAPIError) -> object:
    """Return the code that the database gave to an error: its name in SQLite, its number in MySQL, its SQLSTATE."""
    first = next(iter(error.orig.args), None) if error.orig is not None else None
    if isinstance(first, int):
        return first
    return getattr(error.orig, "sqlite_errorname", None) or getattr(error.orig, "sqlstate", None)


def _fields(error: DBAPIError) -> Iterator[str]:
    """Find the names of the fields that have to be unique: SQLite tells the columns, the servers the constraint."""
    message = str(error.orig)
    yield from re.findall(r"\w+\.(\w+)", message.partition("UNIQUE constraint failed: ")[2])
    in_message = re.search(r"for key '(?:.*\.)?(.*?)'", message)
    name = in_message[1] if in_message else getattr(getattr(error.orig, "diag", None), "constraint_name", None)
    tables = {mapper.local_table for mapper in Base.registry.mappers}
    for table in tables:
        for constraint in (*getattr(table, "constraints", ()), *getattr(table, "indexes", ())):
            if name is not None and constraint.name == name:
                yield from (column.key for column in constraint.columns)
