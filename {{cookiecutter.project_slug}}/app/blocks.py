"""The transaction of a block or a function, for work that no response commits: edit only if your rule differs."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import wraps
from inspect import isasyncgenfunction, iscoroutine, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeVar, cast, overload

from sqlalchemy.orm import Session

from app.callbacks import run_callbacks
from app.conflicts import follows_conflict, is_conflict
from app.db import session
from app.decisions import is_decided_elsewhere
from app.savepoints import savepoint
from app.turns import pause
from app.uncommitted import uncommitted_work

P = ParamSpec("P")
R = TypeVar("R")


@overload
def transaction(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def transaction(*, attempts: int = 1) -> "Transaction": ...
def transaction(function: Callable[P, R] | None = None, /, *, attempts: int = 1) -> "Transaction | Callable[P, R]":
    """Commit what a block, or a decorated function, writes to the database; roll it back if it raises.

    Within another one, and where a response decides, it is a savepoint. Anywhere else (a script, a task, a stream, a
    callback of `on_commit`) it is the outermost: it commits, and ends the session unless there was one before.
    A decorated function whose outermost transaction loses a conflict runs up to `attempts` times, unless the session has held
    work before: that would be lost.

    :raises sqlalchemy.exc.SQLAlchemyError: if the database refuses, at the latest when it commits; where that only follows
        a conflict which the function has swallowed, the error of the conflict.
    """
    return Transaction(attempts) if function is None else Transaction(attempts)(function)


class Transaction:
    """What `transaction()` returns: a context manager for one block after the other, and a decorator."""

    def __init__(self, attempts: int) -> None:
        """Run a function up to `attempts` times."""
        self._attempts = attempts

    def __enter__(self) -> Session:
        """Begin, and return the session.

        :raises TypeError: if more than one attempt was asked for: a block cannot run again.
        """
        if self._attempts > 1:
            raise TypeError("A block cannot run again: decorate a function with @transaction(attempts=...).")
        block = _block()
        current = block.__enter__()
        current.info.setdefault("blocks", []).append(block)  # not in this object, which threads may share
        return current

    def __exit__(self, *error: Any) -> bool | None:
        """Commit, or roll back after an error.

        :raises RuntimeError: if the session was removed within the block: what the block wrote is lost.
        """
        current = session.existing()
        blocks = current.info.get("blocks") if current is not None else None
        if blocks:
            block: AbstractContextManager[Session] = blocks.pop()
            return block.__exit__(*error)
        if error[0] is None:
            _refuse_removed(None)
        return None

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function, also an asynchronous one.

        :raises TypeError: for a generator, which would run after its transaction.
        """
        if isgeneratorfunction(function) or isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__}() yields: write `with transaction():` inside it.")

        @wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> Any:
            for number in self._all_but_the_last():
                try:
                    with _block():
                        return await cast("Any", function(*args, **kwargs))
                except Exception as error:  # noqa: BLE001 (it raises all but conflicts)
                    _pause_after(error, number)
            with _block():
                return await cast("Any", function(*args, **kwargs))

        @wraps(function)
        def run(*args: P.args, **kwargs: P.kwargs) -> Any:
            for number in self._all_but_the_last():
                try:
                    with _block():
                        return _refuse_later(function(*args, **kwargs))
                except Exception as error:  # noqa: BLE001 (it raises all but conflicts)
                    _pause_after(error, number)
            with _block():
                return _refuse_later(function(*args, **kwargs))

        return cast("Callable[P, R]", run_async if iscoroutinefunction(function) else run)

    def _all_but_the_last(self) -> range:
        """Return the numbers of the attempts that another may follow."""
        attempts = self._attempts
        current = session.existing()
        if is_decided_elsewhere(current) or (current is not None and uncommitted_work(current)):
            attempts = 1
        return range(1, attempts)


def _refuse_later(returned: R) -> R:
    """Return what a function has returned; raise if it is its work: a decorator may hide that it is asynchronous."""
    if iscoroutine(returned):
        returned.close()
        raise TypeError(f"{returned.__qualname__}() is asynchronous: put @transaction below its other decorators.")
    return returned


def _pause_after(error: Exception, attempt: int) -> None:
    """Wait before the attempt that follows a conflict; raise any other error."""
    if not is_conflict(error):
        raise error
    pause(attempt)


def _refuse_removed(current: Session | None) -> None:
    """Raise if a block has not its session any more."""
    if current is None or session.existing() is not current:
        raise RuntimeError("The session was removed within transaction(): what was written in it is lost.")


@contextmanager
def _block() -> Iterator[Session]:
    """Commit a block, or a savepoint of the transaction that it is in."""
    existing = session.existing()
    inside, current = is_decided_elsewhere(existing), session()
    if inside:
        with savepoint(current):
            yield current
            _refuse_removed(current)
        return
    current.info["block"] = None  # until a conflict is noted
    try:
        yield current
        _refuse_removed(current)
        if existing is None:  # the objects can still be read when their session has ended
            current.expire_on_commit = False
        current.commit()
        run_callbacks(current)
    except BaseException as error:
        lost_in = current.info["block"]
        current.rollback()
        if follows_conflict(error, lost_in):
            raise lost_in["lost"] from lost_in["lost"].__cause__
        raise
    finally:
        del current.info["block"]
        if existing is None and session.existing() is current:
            session.remove()
