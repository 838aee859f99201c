"""The tasks, which a worker runs in the background: Celery, with a transaction for each. Write yours at the end, and their imports here."""

import os
import re
from functools import cache
from typing import Any, Literal

from celery import Celery, Task
from celery.signals import worker_init
from flask import Flask, current_app
from kombu.exceptions import OperationalError as QueueError
from sqlalchemy.exc import OperationalError

from app.config import SettingError
from app.conflicts import is_conflict
from app.decisions import awaits_response
from app.transactions import on_commit, transaction


class TransactionalTask(Task):  # type: ignore[type-arg] # it is generic for mypy only
    """A task that commits what it writes as it returns, and rolls it back if it raises.

    An error of the commit is an error of the task. `retry()`, `Ignore`, `Reject` and the soft time limit roll back. One that
    loses a conflict runs again, up to `attempts` times: `@celery_app.task(attempts=1)` forbids it. Called as
    a plain function it is a part of the caller's transaction.
    """

    abstract = True
    attempts = 10

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the task in a context and a transaction of its own; as a plain function, in those of the caller."""
        running: Any = self.request
        if running.called_directly or hasattr(running, "in_transaction"):
            return self.run(*args, **kwargs)
        running.in_transaction = True
        waits = bool(running.is_eager) and awaits_response()  # and the request waits for the task
        with (current_app or _flask_app()).app_context():
            try:
                return transaction(attempts=1 if waits else self.attempts)(self.run)(*args, **kwargs)
            except OperationalError as error:
                if waits and is_conflict(error):
                    hint = f"{self.name} waited for a lock of the request that waits for it: use delay_on_commit()."
                    raise RuntimeError(hint) from error
                raise

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Queue the task when the transaction has been committed: it finds the rows. Not if it is rolled back."""
        on_commit(lambda: self.delay(*args, **kwargs))


@cache
def _flask_app() -> Flask:
    """Return the application of a worker."""
    from app import create_app  # not before the tasks are there: its views may use them

    return create_app({"SERVING": False})


def _url(name: str) -> str | None:
    """Return a setting that is a URL; None if it is not set.

    :raises SettingError: for one that Celery would not understand, or would take for another.
    """
    value = os.environ.get(name) or None
    if value is not None and not re.match(r"(redis|rediss|amqp|amqps|memory|rpc|cache\+memory)://", value):
        raise SettingError(
            f"{name} is not a URL of Redis or RabbitMQ: write redis://host:6379/0 or amqp://user:password@host//."
        )
    return value


celery_app = Celery("app", task_cls=TransactionalTask)
celery_app.conf.update(
    broker_url=_url("CELERY_BROKER_URL"),
    result_backend=_url("CELERY_RESULT_BACKEND"),
    # Without a broker, the process that queues a task runs it at once, and hears of its error.
    task_always_eager=_url("CELERY_BROKER_URL") is None,
    task_eager_propagates=True,
    # A task is taken from the queue when it has ended: one whose worker was killed runs again.
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    # A broker that is away is an error within seconds, and in the log.
    broker_transport_options={
        "max_retries": 3,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 0.5,
        # Redis only: one that accepts and says nothing. A worker waits for tasks a second at a time.
        **(
            {"socket_connect_timeout": 3, "socket_timeout": 5}
            if (_url("CELERY_BROKER_URL") or "").startswith("redis")
            else {}
        ),
    },
    broker_connection_retry_on_startup=True,
)


def examine_queue() -> tuple[Literal["ok", "problem", "not checked"], str]:
    """Return whether tasks can be queued, and what to say of it."""
    if celery_app.conf.task_always_eager:
        return "not checked", "CELERY_BROKER_URL is not set: tasks run at once in the process that queues them"
    shown = celery_app.conf.broker_url
    with celery_app.connection_for_write(connect_timeout=3) as connection:
        try:
            connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        except (QueueError, OSError) as error:
            return "problem", f"{shown}: {str(error).rstrip('.')}: start it, or correct CELERY_BROKER_URL"
        return "ok", f"{shown} answers"


@worker_init.connect
def _refuse_to_wait_for_nothing(**_: object) -> None:
    """Stop a worker that has no queue.

    :raises SystemExit: if `CELERY_BROKER_URL` is not set.
    """
    if celery_app.conf.task_always_eager:
        raise SystemExit(
            "CELERY_BROKER_URL is not set: tasks run at once in the process that queues them, and need no worker."
        )
