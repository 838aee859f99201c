"""The end of a transaction that has only read, which most requests have: edit only to end it as any other."""

from sqlalchemy.orm import Session

from app.db import engine
from app.engines import connections_of
from app.uncommitted import writes_of


def end_reading(current: Session) -> bool:
    """Commit a transaction at whose commit nothing happens but the COMMIT; return whether it is one.

    Not in the session's own way, which takes longer than the COMMIT; `after_commit` is not sent.
    """
    transaction = current.get_transaction()
    if transaction is None:
        return False
    connections = connections_of(transaction)
    if any(map(writes_of, connections)) or "callbacks" in current.info or not current._is_clean():
        return False
    # It may not be ours to commit; it may write.
    if current.bind is not engine or current.in_nested_transaction() or current.dispatch.before_commit:
        return False
    for connection in connections:
        connection.commit()
    transaction.close()
    if current.expire_on_commit:
        current.expire_all()  # a stream or a teardown may use the objects in another transaction
    return True
