"""A line for each request: edit to log more. In debug mode it is for people, otherwise JSON for machines."""

import json
import logging
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import getrandbits
from time import perf_counter
from typing import Any

from flask import Flask
from sqlalchemy import Engine

from app.config import choice, number
from app.db import engine

logger = logging.getLogger("app.requests")


@dataclass(slots=True)
class Request:
    """What the line of a request tells."""

    id: str
    began: float = field(default_factory=perf_counter)
    status: int = 500
    """500, if the server has to answer an exception."""
    statements: int = 0
    seconds_in_database: float = 0


_request: ContextVar[Request | None] = ContextVar("app.logs.request", default=None)


def init_app(app: Flask) -> None:
    """Log each request of `app` if `LOG_LEVEL` allows it, with an id that its answer has as `X-Request-ID`.

    The id is that of the proxy, if there is one to trust. The query is not logged: it may hold what is secret.
    """
    trusts_proxy = number("TRUSTED_PROXIES", default=0, unit="proxies") > 0
    level = choice("LOG_LEVEL", *(("INFO", "WARNING") if app.debug else ("WARNING", "INFO")), "DEBUG", "ERROR")
    if not app.testing:
        _configure(level, debug=app.debug)
    if not logger.isEnabledFor(logging.INFO):
        return
    _count_statements(engine)
    answer = app.wsgi_app

    def answer_and_log(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        given = environ.get("HTTP_X_REQUEST_ID") if trusts_proxy else None
        valid = given is not None and re.fullmatch(r"[\w.:-]{1,100}", given, re.ASCII)
        request = Request(given if given and valid else f"{getrandbits(64):016x}")
        _request.set(request)

        def start(status: str, headers: list[tuple[str, str]], error: Any = None) -> Any:
            request.status = int(status[:3])
            headers.append(("X-Request-ID", request.id))
            return start_response(status, headers, error)

        method, path = environ["REQUEST_METHOD"], environ.get("SCRIPT_NAME", "") + environ["PATH_INFO"]
        try:
            body = answer(environ, start)
        except BaseException:
            _log(method, path, request)
            raise
        return Body(body, lambda: _log(method, path, request))

    setattr(app, "wsgi_app", answer_and_log)  # noqa: B010 (a method)


class Body:
    """The body of an answer: its request is logged when it has ended, and so is the error that ends it."""

    def __init__(self, body: Iterable[bytes], ended: Callable[[], None]) -> None:
        """Call `ended()` once `body` has been closed, whatever happens."""
        self.body, self.pieces, self.ended = body, iter(body), ended

    def __iter__(self) -> Iterator[bytes]:
        """Return the pieces of the body."""
        return self

    def __next__(self) -> bytes:
        """Return the next piece."""
        try:
            return next(self.pieces)
        except StopIteration:
            raise
        except Exception:
            logger.exception("The answer was cut off.")
            raise

    def close(self) -> None:
        """Close the body."""
        try:
            getattr(self.body, "close", lambda: None)()
        finally:
            self.ended()


def _log(method: str, path: str, request: Request) -> None:
    """Log a request that has ended, its body included."""
    told = {
        "method": method,
        "path": path.encode("latin-1", "replace").decode("utf-8", "replace"),
        "status": request.status,
        "ms": round((perf_counter() - request.began) * 1000, 1),
        "statements": request.statements,
        "database_ms": round(request.seconds_in_database * 1000, 1),
    }
    logger.info(
        "%(method)s %(path)s %(status)s in %(ms)s ms, %(statements)s statements in %(database_ms)s ms",
        told,
        extra={"fields": told},
    )
    _request.set(None)


def _count_statements(engine: Engine) -> None:
    """Count what an engine sends to the database for a request, and how long it takes."""
    if getattr(engine.dialect, "counts_statements", False):
        return
    setattr(engine.dialect, "counts_statements", True)  # noqa: B010 (it is ours)
    for name in ("do_execute", "do_executemany", "do_execute_no_params"):
        setattr(engine.dialect, name, _counted(getattr(engine.dialect, name)))


def _counted(execute: Callable[..., None]) -> Callable[..., None]:
    """Return `execute`, a method of a dialect, so that it counts."""

    def execute_and_count(*args: Any, **options: Any) -> None:
        request, began = _request.get(), perf_counter()
        try:
            execute(*args, **options)
        finally:
            if request is not None:
                request.statements += 1
                request.seconds_in_database += perf_counter() - began

    return execute_and_count


def _configure(level: str, *, debug: bool) -> None:
    """Send what is logged to stderr, once for all apps of the process; leave it alone if somebody else has done so."""
    if not logging.root.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(levelname)s %(message)s") if debug else JSONFormatter())
        logging.root.addHandler(handler)
        logging.root.setLevel(level)
        # It names each of its plugins when /readyz first reads the migrations.
        logging.getLogger("alembic.runtime.plugins").setLevel(max(logging.root.level, logging.WARNING))
    if debug:  # the development server has a line for each request too
        logging.getLogger("werkzeug").addFilter(lambda record: " HTTP/" not in record.getMessage())


class JSONFormatter(logging.Formatter):
    """Writes a record as a line of JSON, with the id of the request; without secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        request = _request.get()
        told = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            "level": record.levelname,
            "logger": record.name,
            "message": without_secrets(record.getMessage()),
            **({"request_id": request.id} if request else {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            told["exception"] = without_secrets(self.formatException(record.exc_info))
        return json.dumps(told, ensure_ascii=False, default=str)


def reason(error: BaseException | None) -> str:
    """Return in one line what the database says of an error, without the statement and its values."""
    orig = getattr(error, "orig", None) or error
    return f"{type(orig).__name__}: {str(orig).partition(chr(10))[0]}"


def without_secrets(text: str) -> str:
    """Return a text without passwords, and without the rows that servers show in their errors."""
    text = re.sub(
        r"^DETAIL: .*?(?=^(?:CONTEXT|HINT|\[SQL|\(Background|Traceback|The above)|\Z)",
        "DETAIL: ***\n",
        text,
        flags=re.M | re.S,
    )
    return without_passwords(re.sub(r"(Duplicate entry|value:) '.*?'(?= for )", r"\1 '***'", text, flags=re.S))


def without_passwords(text: str) -> str:
    """Return a text without the passwords of the URLs in it."""
    text = re.sub(r"(?<=://)([^\s:/@]{0,100}):\S{0,200}@", r"\1:***@", text)
    return re.sub(r"([?&]\w*passw\w*=)[^&\s]*", r"\1***", text)
