"""What an error of the database tells the client: edit only to tell it more, or for another database."""

import re
from collections.abc import Iterator

from flask import Flask, current_app, request
from sqlalchemy.exc import DataError, DBAPIError, InterfaceError, OperationalError, StatementError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.orm.exc import StaleDataError
from werkzeug.exceptions import Conflict, HTTPException, ServiceUnavailable, UnprocessableEntity

from app.conflicts import database_code, is_conflict
from app.contexts import handler_of, translate_exceptions
from app.decisions import note_unhandled
from app.errors import FieldError, answer_http_error
from app.logs import reason
from app.models import Base

# The codes of SQLite (https://www.sqlite.org/rescode.html), PostgreSQL (its appendix A), and MySQL and MariaDB.
UNIQUE = {"SQLITE_CONSTRAINT_UNIQUE", "SQLITE_CONSTRAINT_PRIMARYKEY", "SQLITE_CONSTRAINT_ROWID", "23505", 1062}
FOREIGN_KEY = {"SQLITE_CONSTRAINT_FOREIGNKEY", "23503", "23001", 1451, 1452}
CHECK = {"SQLITE_CONSTRAINT_CHECK", "23514", 3819, 4025}
BUSY = {"25P03", "53300", "55P03", 1040, 3572}


class TakenFieldsError(FieldError, Conflict):
    """409: another row has these values already."""


def init_app(app: Flask) -> None:
    """Answer the errors of the database that no handler of `app` takes, also when the commit raises them."""

    def translate(error: Exception) -> HTTPException | None:
        known = as_http_error(error)
        if known is not None:
            if handler_of(app, known) in (None, answer_http_error):
                note_unhandled()
            told = (request.method, request.path, known.code, reason(error))
            if is_conflict(error):
                current_app.logger.warning("%s %s: answered by %s: %s", *told)
            elif known.code != 409:  # whoever runs the app wants to know
                current_app.logger.error("%s %s: answered by %s: %s", *told, exc_info=error)
        return known

    translate_exceptions(app, translate)


def as_http_error(error: Exception) -> HTTPException | None:
    """Return the HTTP error that tells the client what to do; None for a mistake of the app."""
    if isinstance(error, PoolTimeoutError):
        return ServiceUnavailable("Every connection to the database is in use. Try again.", retry_after=1)
    if isinstance(error, StaleDataError):
        return Conflict("Somebody else has changed this in the meantime. Load it again.")
    # No member of an enum; a length of time that is too long.
    if isinstance(error, StatementError) and isinstance(error.orig, LookupError | OverflowError):
        return UnprocessableEntity("The database does not accept one of the values.")
    code = database_code(error) if isinstance(error, DBAPIError) else None
    if code in BUSY or is_conflict(error):
        return ServiceUnavailable("The database is busy. Try again.", retry_after=1)
    if not isinstance(error, DBAPIError):
        return None
    if code in UNIQUE:
        return _taken(list(_fields(error)))
    if code in FOREIGN_KEY:
        deletes = (error.statement or "").startswith("DELETE")
        return Conflict("This is still in use." if deletes else "This names something that is not there.")
    if code in CHECK or isinstance(error, DataError):
        return UnprocessableEntity("The database does not accept one of the values.")
    # A connection that is lost without a statement is lost at COMMIT: nobody knows what happened, and a client that
    # is told to try again might do it twice.
    not_reached = error.connection_invalidated != (error.statement is None)
    if isinstance(error, OperationalError | InterfaceError) and not_reached:
        return ServiceUnavailable("The database cannot be reached. Try again later.", retry_after=5)
    return None


def _taken(fields: list[str]) -> TakenFieldsError:
    """Return the error for values that have to be unique."""
    errors = [{"field": field, "message": "already taken"} for field in fields]
    return TakenFieldsError(f"{' and '.join(fields)}: already taken." if fields else "This is already there.", errors)


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
