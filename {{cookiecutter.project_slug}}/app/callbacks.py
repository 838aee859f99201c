"""What is to happen after the commit, and only then: edit only if your rule differs."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import ExitStack
from inspect import iscoroutinefunction
from uuid import uuid4

from flask import Flask, current_app
from sqlalchemy import event
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction

from app.commits import end_reading
from app.db import session, session_factory
from app.decisions import is_decided_elsewhere
from app.engines import connections_of
from app.streams import own_session
from app.uncommitted import notes_of

logger = logging.getLogger(__name__)


def on_commit(callback: Callable[[], object]) -> None:
    """Call `callback()` once, when the outermost transaction has been committed; at once if there is none.

    It is forgotten if the transaction, or the savepoint in which this was called, is rolled back. The callbacks run in
    the order of these calls, each with a session of its own, which only `with transaction():` commits. One that
    raises is logged, and changes nothing. In an application it may be asynchronous, as a view may.

    :raises TypeError: for an asynchronous function outside an application.
    """
    if iscoroutinefunction(callback) and not current_app:
        raise TypeError(
            f"{callback.__qualname__}() is asynchronous: enter app.app_context(), or give a plain function."
        )
    existing = session.existing()
    if is_decided_elsewhere(existing) or (existing is not None and existing.in_transaction()):
        current = session()
        current.info.setdefault("callbacks", []).append((current.get_nested_transaction(), _place(current), callback))
    else:
        _call(callback)


def run_callbacks(committed: Session) -> None:
    """Call, once, what waits for the commit of a session."""
    callbacks = committed.info.pop("callbacks", ())
    if not callbacks:
        return
    with ExitStack() as calls:  # which makes them all, whatever one raises
        for _, is_there, callback in reversed(callbacks):
            if is_there():
                calls.callback(_call, callback)
    try:
        end_reading(committed)  # what they wanted to know of its objects
    except SQLAlchemyError:
        logger.warning("the connection was lost after the commit", exc_info=True)
        committed.rollback()


def _place(current: Session) -> Callable[[], bool]:
    """Note a place in the transaction; return a function that tells whether no savepoint around it was rolled back.

    Those of Core and of `text()` tell the session nothing, but what SQLAlchemy sends is noted.
    """
    notes, place = notes_of(current), f"PLACE {uuid4()}"
    for writes in notes:
        writes.append(place)
    return lambda: all(place in writes for writes in notes)


def _call(callback: Callable[[], object]) -> None:
    """Call one callback; log it if it fails."""
    app: Flask | None = current_app or None
    try:
        with own_session(app):
            (app.ensure_sync(callback) if app is not None else callback)()
    except (Exception, asyncio.CancelledError):
        logger.exception("a callback of on_commit failed: %r", callback)


@event.listens_for(session_factory, "after_transaction_end")
def _end(ended: Session, transaction: SessionTransaction) -> None:
    """Keep, forget or call the callbacks of a transaction or a savepoint that has ended."""
    if not ended.info or not (transaction.nested or transaction.parent is None):
        return
    committed = ended.info.pop("committed", None) is transaction
    callbacks = ended.info.get("callbacks")
    if not callbacks:
        return
    if transaction.nested:  # they now belong to what is around the savepoint
        around = ended.get_nested_transaction()
        ended.info["callbacks"] = [
            (around if savepoint is transaction else savepoint, is_there, callback)
            for savepoint, is_there, callback in callbacks
            if committed or savepoint is not transaction
        ]
    elif not committed:
        del ended.info["callbacks"]
    elif connections_of(transaction) or not is_decided_elsewhere(ended):
        run_callbacks(ended)
    # else: a commit without work says nothing yet; the response or the block will, and calls them.
