"""Work that nobody has committed: how it is noted, and reported before it is lost. Edit only to report it elsewhere."""

import re
from typing import Any

from flask import Flask
from sqlalchemy import Connection, event
from sqlalchemy.orm import Session

from app.db import engine, session

_COMMENTS = re.compile(r"(?:\s+|--[^\n]*|/\*.*?\*/)*", re.DOTALL)
_WRITE = re.compile(
    r"(INSERT|UPDATE|DELETE|REPLACE|MERGE|CREATE|ALTER|DROP|TRUNCATE"
    r"|WITH\b.*\b(INSERT\s+INTO|(?<!FOR\s)UPDATE|DELETE\s+FROM|MERGE\s+INTO))\b",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|`[^`]*`""")


def report_uncommitted(app: Flask, *, expected: BaseException | None, answered: bool) -> None:
    """Log what is about to be lost, unless an error explains it; under `TESTING` raise it.

    :raises RuntimeError: under `TESTING`, if the work was done after the response, or belongs to none.
    """
    work = _uncommitted_work(session()) if session.registry.has() else []
    if work and expected is not None:
        app.logger.debug("rollback because of %s", type(expected).__name__)
    elif work:
        message = f"Discarded what nobody has committed: {', '.join(work)}."
        app.logger.error(message)
        if app.testing and answered:
            raise RuntimeError(message)


def _uncommitted_work(session: Session) -> list[str]:
    """Return what a commit would write and what the transaction has written, in a few words each."""
    changed = [obj for obj in session.dirty if session.is_modified(obj)]
    unsaved = [f"an unsaved {type(obj).__name__}" for obj in (*session.new, *changed, *session.deleted)]
    transaction = session.get_transaction()
    connections = transaction.connections if transaction is not None else ()
    writes = dict.fromkeys(write for connection in connections for write in connection.info.get("writes", ()))
    return [*unsaved, *(write for write in writes if not write.startswith("SAVEPOINT"))]


@event.listens_for(engine, "begin")
def _forget_writes(connection: Connection) -> None:
    """Start a transaction that has written nothing."""
    connection.info["writes"] = []


@event.listens_for(engine, "after_cursor_execute")
def _note_write(connection: Connection, _cursor: Any, statement: str, *_: Any) -> None:
    """Note the kind and the table of a statement that writes, whoever sends it: ORM, Core or text."""
    if statement.startswith("SELECT"):
        return
    writes = connection.info.setdefault("writes", [])
    bare = statement[_COMMENTS.match(statement).end() :]  # type: ignore[union-attr] # it matches anything
    if bare.startswith("SAVEPOINT"):
        writes.append(bare)
    elif bare.startswith("ROLLBACK TO "):
        del writes[writes.index(bare.removeprefix("ROLLBACK TO ")) :]
    elif _WRITE.match(_QUOTED.sub("_", bare) if bare[:4].upper() == "WITH" else bare):
        writes.append(" ".join(bare.split(maxsplit=3)[:3]))
