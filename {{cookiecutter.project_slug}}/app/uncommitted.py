"""Work that nobody has committed: how it is noted, and reported before it is lost. Edit only to report it elsewhere."""

import logging
import re
from functools import lru_cache
from typing import Any

from flask import Flask
from sqlalchemy import Connection, ExecutionContext
from sqlalchemy.orm import Session

from app.db import engine
from app.engines import before_statements, connections_of

logger = logging.getLogger(__name__)

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*", re.DOTALL)
_WRITE = re.compile(
    r"(INSERT|UPDATE|DELETE|REPLACE|MERGE|CREATE|ALTER|DROP|TRUNCATE|CALL|DO|COPY|LOAD|COMMENT|GRANT|NOTIFY|REFRESH|REVOKE"
    r"|WITH\b.*\b(INSERT\s+INTO|(?<!FOR\s)UPDATE|DELETE\s+FROM|MERGE\s+INTO))\b",
    re.IGNORECASE | re.DOTALL,
)
_SAVEPOINT = re.compile(
    r"(?:(?P<back>ROLLBACK(?:\s+\w+)?\s+TO)\s+(?:SAVEPOINT\s+)?|(?P<end>RELEASE)\s+(?:SAVEPOINT\s+)?|SAVEPOINT\s+)"
    r"(?P<name>[^\s;]+)",
    re.IGNORECASE,
)
_ROLLBACK = re.compile(r"ROLLBACK(\s+(WORK|TRANSACTION))?\s*;?\s*$", re.IGNORECASE)
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")


def report_uncommitted(left: Session, app: Flask | None, *, expected: BaseException | None, answered: bool) -> None:
    """Log what is about to be lost, unless an error explains it; under `TESTING` raise it.

    :raises RuntimeError: under `TESTING`, if the work was done after the response, or belongs to none.
    """
    work = uncommitted_work(left)
    log = logger if app is None else app.logger
    if work and expected is not None:
        log.debug("rollback because of %s", type(expected).__name__)
    elif work:
        message = f"Discarded what nobody has committed: {', '.join(work)}."
        log.error(message)
        if app is not None and app.testing and answered:
            raise RuntimeError(message)


def uncommitted_work(session: Session) -> list[str]:
    """Return what a commit would write or call, and what the transaction has written, in a few words each."""
    changed = [obj for obj in session.dirty if session.is_modified(obj)]
    unsaved = [f"an unsaved {type(obj).__name__}" for obj in (*session.new, *changed, *session.deleted)]
    writes = dict.fromkeys(write for writes in notes_of(session) for write in writes)
    callbacks = [f"the callback {callback!r}" for *_, callback in session.info.get("callbacks", ())]
    return [*unsaved, *(write for write in writes if not write.startswith(("SAVEPOINT ", "PLACE "))), *callbacks]


def notes_of(session: Session) -> list[list[str]]:
    """Return what each connection has written in the transaction of a session; one that is dead has not."""
    transaction = session.get_transaction()
    return [writes_of(c) for c in connections_of(transaction) if not c.invalidated] if transaction is not None else []


def writes_of(connection: Connection) -> list[str]:
    """Return what a connection has written in its transaction, in a few words for each statement.

    Its savepoints are there too, and the places that `on_commit` has noted. The list is another one each time until
    something is noted.
    """
    writes: list[str] = connection.info.get("transaction", {}).get("writes", [])
    return writes


def _note_write(_cursor: Any, statement: str, _parameters: Any, context: ExecutionContext) -> None:
    """Note the kind and the table of a statement that writes, whoever sends it: ORM, Core or text."""
    write = None if statement.startswith("SELECT") else _write_in(statement)
    if write is None:
        return
    writes = context.root_connection.info["transaction"].setdefault("writes", [])
    verb, _, name = write.rpartition(" SAVEPOINT ")
    if write == "ROLLBACK":
        writes.clear()
    elif not verb:
        writes.append(write)
    elif (savepoint := f"SAVEPOINT {name}") in writes:  # the last one of this name is meant
        place = len(writes) - 1 - writes[::-1].index(savepoint)
        if verb == "RELEASE":  # those within it have ended too
            writes[place:] = [write for write in writes[place:] if not write.startswith("SAVEPOINT ")]
        else:  # it is still there
            del writes[place + 1 :]


@lru_cache(maxsize=1000)
def _write_in(statement: str) -> str | None:
    """Return what a statement writes, in a few words, or what it takes back or keeps; None if it does neither."""
    bare = statement[_COMMENTS.match(statement).end() :]  # type: ignore[union-attr] # it matches anything
    if savepoint := _SAVEPOINT.match(bare):
        verb = "ROLLBACK TO " if savepoint["back"] else "RELEASE " if savepoint["end"] else ""
        return f"{verb}SAVEPOINT {savepoint['name'].lower()}"
    if _ROLLBACK.match(bare):
        return "ROLLBACK"
    is_write = _WRITE.match(_QUOTED.sub("_", bare) if bare[:4].upper() == "WITH" else bare)
    return " ".join(bare.split(maxsplit=3)[:3]) if is_write else None


before_statements(engine, _note_write)
