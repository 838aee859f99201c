"""How a `save()` that fails undoes itself and nothing else: edit only if it should undo more."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin


class SavepointSession(Session):
    """A session that can open a savepoint without a flush."""

    def flush(self, objects: Sequence[Any] | None = None) -> None:
        """Write the changes to the database, but not while `open_savepoint` opens one."""
        if not self.info.get("flush_is_held"):
            super().flush(objects)


def open_savepoint(session: Session) -> SessionTransaction:
    """Open a savepoint and write nothing before it.

    `begin_nested()` flushes first: a bad value that is set already would fail outside the savepoint and
    take the whole transaction with it.
    """
    session.info["flush_is_held"] = True
    try:
        return session.begin_nested()
    finally:
        del session.info["flush_is_held"]


@contextmanager
def flushed_alone(session: Session, instance: object) -> Iterator[None]:
    """Flush what the block does to `instance`; if that fails, undo it and keep the rest of the transaction.

    The first statement of a transaction needs no savepoint: there is nothing to keep. After a read there is,
    because a rollback would make what was read stale.

    :raises sqlalchemy.exc.DBAPIError: the error of the database, as it came.
    """
    others = _unsaved(session, but=instance)
    savepoint = None if _has_done_nothing(session) else open_savepoint(session)
    try:
        yield
        session.flush()
        if savepoint is not None:
            savepoint.commit()
    except BaseException as error:
        if isinstance(error, DBAPIError) and (error.statement or "").startswith("ROLLBACK TO SAVEPOINT"):
            # The database has ended the whole transaction with its first error. The session refuses to go on
            # until all of it is rolled back, so nothing that is left of it can be committed.
            raise error.__context__ or error from None
        if savepoint is None:
            session.rollback()
        else:
            savepoint.rollback()
        if others:
            _save_again(session, others)
        raise


def _has_done_nothing(session: Session) -> bool:
    """Return whether the transaction has sent no statement and was not opened by hand."""
    transaction = session.get_transaction()
    if transaction is None:
        return True
    by_hand = transaction.origin is not SessionTransactionOrigin.AUTOBEGIN or session.in_nested_transaction()
    return not by_hand and not transaction.connections


def _unsaved(session: Session, but: object) -> list[tuple[object, dict[str, Any] | None]]:
    """Return the other objects with changes that are not flushed; those to be deleted with None."""
    return [
        *((obj, {}) for obj in session.new if obj is not but),
        *((obj, _changes(obj)) for obj in session.dirty if obj is not but),
        *((obj, None) for obj in session.deleted if obj is not but),
    ]


def _changes(obj: object) -> dict[str, Any]:
    """Return the new values of the attributes that were set."""
    return {attribute.key: attribute.value for attribute in inspect(obj).attrs if attribute.history.has_changes()}


def _save_again(session: Session, unsaved: list[tuple[object, dict[str, Any] | None]]) -> None:
    """Make and flush once more the changes that were undone together with a failed one."""
    savepoint = open_savepoint(session)
    try:
        for obj, changes in unsaved:
            if changes is None:
                session.delete(obj)
                continue
            session.add(obj)
            for name, value in changes.items():
                setattr(obj, name, value)
        savepoint.commit()
    except SQLAlchemyError:
        # They are at fault themselves, or hang on what failed; the error of the first attempt says so.
        savepoint.rollback()
