"""How a `save()` that fails undoes itself and nothing else: edit only if it should undo more."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, SessionTransaction, SessionTransactionOrigin
from sqlalchemy.orm.attributes import flag_modified, set_committed_value

from app.engines import connections_of

logger = logging.getLogger(__name__)


def open_savepoint(session: Session) -> SessionTransaction:
    """Open a savepoint and write nothing before it.

    `begin_nested()` flushes first: a bad value that is set already would fail outside the savepoint and
    take the whole transaction with it.
    """
    vars(session)["flush"] = lambda *_: None
    try:
        return session.begin_nested()
    finally:
        del vars(session)["flush"]


def flush_alone(session: Session, instance: object, change: Callable[[], object]) -> None:
    """Flush what `change()` does to `instance`; if that fails, undo it and keep the rest of the transaction.

    The first statement of a transaction needs no savepoint: there is nothing to keep. After a read there is,
    because a rollback would make what was read stale.

    :raises sqlalchemy.exc.DBAPIError: the error of the database, as it came.
    """
    unsaved = [] if session._is_clean() else _unsaved_others(session, instance)
    callbacks = [*session.info.get("callbacks", ())]  # without those of listeners to this flush
    opened = None if _has_done_nothing(session) else open_savepoint(session)
    try:
        change()
        session.flush()
        if opened is not None:
            opened.commit()
    except BaseException:
        if opened is not None:
            opened.rollback()
        else:
            session.rollback()
            if callbacks:
                session.info["callbacks"] = callbacks
        _save_again(unsaved)
        raise


@contextmanager
def savepoint(session: Session) -> Iterator[None]:
    """Write the changes so far; then, if the block raises, roll back what it wrote and keep the rest.

    :raises sqlalchemy.exc.DBAPIError: the error of the database, as it came.
    """
    opened = session.begin_nested()
    outermost = session.get_transaction()
    try:
        yield
        if _is_open(session, opened):
            opened.commit()
    except BaseException:
        if _is_open(session, opened):
            with suppress(DBAPIError):  # a dead connection has rolled back more, and the COMMIT will say so
                opened.rollback()
        elif session.get_transaction() is not outermost:  # the block has ended that, and begun another
            session.rollback()
        raise


def _is_open(session: Session, savepoint: SessionTransaction) -> bool:
    """Return whether a savepoint is still there: a commit or rollback of the session ends it with the transaction."""
    innermost = session.get_nested_transaction()
    while innermost is not None and innermost is not savepoint:
        innermost = innermost.parent
    return innermost is savepoint


def _has_done_nothing(session: Session) -> bool:
    """Return whether the transaction has sent no statement and was not opened by hand."""
    transaction = session.get_transaction()
    if transaction is None:
        return True
    by_hand = transaction.origin is not SessionTransactionOrigin.AUTOBEGIN or session.in_nested_transaction()
    return not by_hand and not connections_of(transaction)


def _unsaved_others(session: Session, instance: object) -> list["_Unsaved"]:
    """Return the changes that are not flushed, but for those of `instance`."""
    changed = [*session.new, *session.dirty, *session.deleted]
    return [_Unsaved(session, other, but=instance) for other in changed if other is not instance]


def _save_again(unsaved: list["_Unsaved"]) -> None:
    """Save what may be saved, in as many rounds as it takes: one change may wait for another."""
    while unsaved:
        failed = {other: error for other in unsaved if (error := other.save_again())}
        if len(failed) == len(unsaved):
            for other, error in failed.items():
                logger.warning("dropped the changes of %s: %s", type(other.instance).__name__, error)
            return
        unsaved = list(failed)


class _Unsaved:
    """The changes of an object that were not flushed when the `save()` of another began, which may undo them."""

    def __init__(self, session: Session, instance: object, but: object) -> None:
        """Note the changes, but not those that lead to the object `but`."""
        self.session, self.instance = session, instance
        self.deleted = instance in session.deleted
        self.changes: list[tuple[str, list[Any], list[Any]]] = []
        for attribute in inspect(instance, raiseerr=True).attrs:
            added, _, removed = attribute.history
            if added or removed:
                others = [item for item in added if item is not but]
                self.changes.append((attribute.key, others, [item for item in removed if item is not but]))

    def save_again(self) -> Exception | None:
        """Make the changes once more and flush them; return why they fail, if they do."""
        savepoint = open_savepoint(self.session)
        try:
            if self.deleted:
                self.session.delete(self.instance)
            else:
                self.session.add(self.instance)
                for name, added, removed in self.changes:
                    self._change(name, added, removed)
            savepoint.commit()
        except Exception as error:  # noqa: BLE001 (the error that is raised is that of the first attempt)
            savepoint.rollback()
            return error
        return None

    def _change(self, name: str, added: list[Any], removed: list[Any]) -> None:
        """Set an attribute, or add to a collection and remove from it."""
        mapper: Any = inspect(type(self.instance))
        if name in mapper.column_attrs:
            if not inspect(self.instance, raiseerr=True).persistent:
                return  # a new object still has its values
            value = added[0] if added else None
            if any(
                column.primary_key or column is mapper.version_id_col for column in mapper.column_attrs[name].columns
            ):
                setattr(self.instance, name, value)  # the UPDATE looks for the old one
                return
            # Not by assignment: the validators have seen the value, and may change it again.
            set_committed_value(self.instance, name, value)
            flag_modified(self.instance, name)
            return
        relationship = mapper.relationships.get(name)
        if relationship is None:  # a composite or a synonym: its columns have the value
            return
        if not relationship.uselist:
            if added:
                setattr(self.instance, name, added[0])
            return
        collection = getattr(self.instance, name)
        adapter = getattr(collection, "_sa_adapter", None)  # a dynamic or write-only collection has none
        for item in added:
            if adapter is None:
                collection.add(item)
            elif item not in adapter:
                adapter.append_with_event(item)
        for item in removed:
            if adapter is None:
                collection.remove(item)
            elif item in adapter:
                adapter.remove_with_event(item)
