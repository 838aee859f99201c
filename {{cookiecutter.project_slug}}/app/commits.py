"""What is noted of each commit, and the short way to one: edit only to commit always in the session's own way."""

from collections.abc import Callable

from sqlalchemy import event
from sqlalchemy.orm import Session, SessionTransaction

from app.db import engine, session, session_factory
from app.engines import connections_of
from app.turns import current_attempt
from app.uncommitted import writes_of

_commit = Session.commit


def commit(current: Session, check: Callable[[], object]) -> None:
    """Commit a session; call `check()` before, unless it has only read and nothing would be lost with the answer.

    :raises sqlalchemy.exc.SQLAlchemyError: if the commit fails; the session is then to be rolled back.
    """
    transaction = _plain_transaction(current)
    has_written = transaction is None or any(map(writes_of, connections_of(transaction)))
    if has_written:
        check()
    if transaction is None or (has_written and transaction._deleted):  # those it detaches
        current.commit()
    else:
        _end_plainly(current, transaction, has_written)


def end_reading(current: Session) -> None:
    """Commit a session that has only read: its connection is free then."""
    transaction = _plain_transaction(current)
    if transaction is not None and not any(map(writes_of, connections_of(transaction))):
        _end_plainly(current, transaction, has_written=False)


def _plain_transaction(current: Session) -> SessionTransaction | None:
    """Return the transaction of a session if nothing happens at its commit but the COMMIT.

    The session's own way takes longer, on a server as long as the COMMIT. It is needed for what is not flushed, for
    callbacks and listeners, and for what is not ours to commit.
    """
    transaction, listeners = current.get_transaction(), current.dispatch
    if transaction is None or not transaction.is_active or current.in_nested_transaction():
        return None
    if not current._is_clean() or "callbacks" in current.info:
        return None
    if listeners.before_commit or len(listeners.after_commit) > 1:  # `_note_commit` is one
        return None
    overridden = getattr(current.commit, "__func__", None) is not _commit
    return None if overridden or current.twophase or current.bind is not engine else transaction


def _end_plainly(current: Session, transaction: SessionTransaction, has_written: bool) -> None:
    """End a transaction with the COMMIT of its connections, which is noted for its request."""
    for _, of_connection, *_ in set(transaction._connections.values()):
        if has_written or of_connection.is_active:  # to have ended it by hand is an error, unless nothing is lost
            of_connection.commit()
    if has_written:
        _note_for_request()
    transaction.close()
    if current.expire_on_commit:
        current.expire_all()  # a stream or a teardown may use the objects in another transaction


@event.listens_for(session_factory, "after_commit", insert=True)  # whatever other listeners raise
def _note_commit(committed: Session) -> None:
    """Note which transaction, or which savepoint, was committed: SQLAlchemy tells both by this event."""
    transaction, savepoint = committed.get_transaction(), committed.get_nested_transaction()
    committed.info["committed"] = savepoint or transaction
    # Whatever it sent: a SELECT may call a function that writes.
    if (
        savepoint is None
        and transaction is not None
        and connections_of(transaction)
        and session.existing() is committed
    ):
        _note_for_request()


def _note_for_request() -> None:
    """Note that the current request has committed through `session`: another run would do the same work twice."""
    attempt = current_attempt()
    while attempt is not None:
        attempt.committed = True
        attempt = attempt.around
