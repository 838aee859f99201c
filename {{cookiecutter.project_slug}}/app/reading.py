"""The end of a transaction that has only read, which most requests have: edit only to end it as any other."""

from typing import Any

from sqlalchemy.orm import Session

from app.db import engine
from app.uncommitted import writes_of


def has_only_read(current: Session) -> bool:
    """Return whether nothing happens at a commit but the COMMIT."""
    transaction = current.get_transaction()
    if transaction is None or current.in_nested_transaction() or "callbacks" in current.info:
        return False
    unlike = current.bind is not engine or current.dispatch.before_commit  # it may not be ours to commit; it may write
    return not (unlike or any(map(writes_of, transaction.connections))) and current._is_clean()


def end_reading(current: Session) -> None:
    """Commit without the session's own way, which takes longer than the COMMIT; `after_commit` is not sent."""
    transaction: Any = current.get_transaction()
    for connection in transaction.connections:
        connection.commit()
    transaction.close()
    if current.expire_on_commit:
        current.expire_all()  # a stream or a teardown may use the objects in another transaction
