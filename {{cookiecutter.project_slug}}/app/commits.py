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
    if transaction is None or (has_written and _has_followers(current, transaction)):
        current.commit()
    else:
        _end_plainly(current, transaction, has_written)


def end_reading(current: Session) -> None:
    """Commit a session that has only read: its connection is free then. `after_commit` is not sent for that."""
    transaction = _plain_transaction(current)
    if transaction is not None and not any(map(writes_of, connections_of(transaction))):
        _end_plainly(current, transaction, has_written=False)


def _plain_transaction(current: Session) -> SessionTransaction | None:
    """Return the transaction of a session if nothing happens at its commit before the COMMIT.

    The session's own way takes longer, on a server as long as the COMMIT. It is needed for what is not flushed, and for
    callbacks and listeners.
    """
    transaction = current.get_transaction()
    if transaction is None or not transaction.is_active or current.in_nested_transaction():
        return None
    if not current._is_clean() or "callbacks" in current.info or current.dispatch.before_commit:
        return None
    return transaction if current.bind is engine else None  # what is written elsewhere is not noted


def _has_followers(current: Session, transaction: SessionTransaction) -> bool:
    """Return whether anything but `_note_commit` follows the COMMIT: deleted objects are detached, others listen."""
    is_ours = type(current) is session_factory.class_ and len(current.dispatch.after_commit) == 1
    is_usual = getattr(current.commit, "__func__", None) is _commit and not current.twophase
    return not (is_ours and is_usual) or bool(transaction._deleted)


def _end_plainly(current: Session, transaction: SessionTransaction, has_written: bool) -> None:
    """End a transaction with the COMMIT of its connections, which is noted for its request."""
    for connection, of_connection, is_own, _ in set(transaction._connections.values()):
        if is_own:  # not lent; to have ended by hand what was written is an error, as in the session's own way
            (of_connection if has_written else connection).commit()
    current.info["committed"] = transaction
    if has_written:
        _note_for_request()
    if current.expire_on_commit:
        current.expire_all()  # a listener, a stream or a teardown may use the objects in another transaction
    transaction.close()


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
