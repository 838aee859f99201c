"""What a response decides about its transaction, and how SQLite begins one: edit only if your rule differs."""

from typing import Any
from weakref import ref

from sqlalchemy import Connection, event
from sqlalchemy.orm import Session, SessionTransaction

from app.contexts import request_context, stored_session
from app.db import engine, session, session_factory
from app.scopes import current_scope

SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}
"""The methods of requests that only read (RFC 9110, 9.2.1)."""


class Decision:
    """What is to become of the session of a request that is being handled."""

    rollback: bool | None = None
    unhandled = False
    commit_failed = False
    made = False
    stored_session: dict[str, Any] | None = None


def open_decision(context: Any) -> Decision:
    """Note that a response will decide about the session of a request, whose context this is."""
    # On the context itself: it ends with it, and a copy of the context has none.
    context.decision = decision = Decision()
    decision.stored_session = stored_session(context)
    context.request.environ["app.dispatched"] = True
    return decision


def request_decision() -> Decision | None:
    """Return the decision about the session of the current request; None where no response decides."""
    return getattr(request_context(), "decision", None)


def current_decision() -> Decision | None:
    """Return the decision about the session of the current scope; None where no response decides."""
    return getattr(current_scope(), "decision", None)


def awaits_response() -> bool:
    """Return whether a response is still to decide about the session of the current scope."""
    decision = current_decision()
    return decision is not None and not decision.made


def is_decided_elsewhere(current: Session | None) -> bool:
    """Return whether a response, or a `with transaction():`, is still to decide about a session, or one that is yet to come."""
    return awaits_response() or (current is not None and "block" in current.info)


def set_rollback(rollback: bool) -> None:
    """Roll back (True) or commit (False) whatever the status of the response will be.

    An exception that only the 500 handler answers is rolled back all the same.

    :raises RuntimeError: where no response decides: outside a request, in a stream, in a nested context.
    """
    decision = current_decision()
    if decision is None or decision.made:
        raise RuntimeError("set_rollback() works while a request is handled; here no response decides.")
    decision.rollback = rollback


def note_unhandled() -> None:
    """Note that no handler of the app's own takes an exception: whatever is answered, the response must not commit."""
    decision = current_decision()
    if decision is not None:
        decision.unhandled = True


if engine.dialect.name == "sqlite":

    @event.listens_for(session_factory, "after_begin")
    def _choose_begin(begun: Session, _transaction: SessionTransaction, connection: Connection) -> None:
        """Take SQLite's only write lock at once where the transaction may write; let the others wait, not fail.

        A transaction that has read and then writes is refused if another has written meanwhile
        (https://www.sqlite.org/isolation.html, SQLITE_BUSY_SNAPSHOT).
        """
        # Not what a callback of `on_commit` reads of the objects of its request: it may write in a session of its own.
        if ("block" in begun.info or _may_write(begun)) and session.existing() is begun:
            connection.info.setdefault("transaction", {})["begin"] = "IMMEDIATE"  # another engine notes nothing


def _may_write(begun: Session) -> bool:
    """Return whether this is the session of a request whose response decides, and which may write or lost before."""
    context = request_context()
    if context is None:
        return False
    attempt = context.request.environ.get("app.attempt")
    if context.request.method in SAFE_METHODS and (attempt is None or attempt.number == 1):
        return False
    if session.sessions.get(ref(context)) is not begun:
        return False  # a session of a nested context, of a stream, or of the app's own making
    decision = getattr(context, "decision", None)
    if decision is None:  # a URL converter, before the request is dispatched; or a copy of its context, after
        return "app.dispatched" not in context.request.environ
    return not (decision.made or decision.commit_failed)
