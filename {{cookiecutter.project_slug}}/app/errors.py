"""One shape for every error that a client sees: problem details (RFC 9457), or a page in a browser."""

from typing import Any

from flask import Flask, Response, current_app, render_template, request
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    HTTPException,
    MethodNotAllowed,
    RequestEntityTooLarge,
)
from werkzeug.routing import IntegerConverter

from app.database_errors import http_error

PROBLEM = "application/problem+json"


def init_app(app: Flask) -> None:
    """Answer the errors of `app`. Call it before routes are added: they use its `<int:...>`."""
    app.register_error_handler(HTTPException, answer_http_error)
    app.register_error_handler(DBAPIError, answer_database_error)
    app.register_error_handler(PoolTimeoutError, answer_database_error)
    app.url_map.converters["int"] = StorableInteger


class StorableInteger(IntegerConverter):
    """`<int:id>` in a URL: a number of more than 64 bits, which no database can hold, is not found."""

    # Not `to_python`: what that refuses is answered by 405 where the URL has routes for other methods too.
    regex = "(?:[0-9]{1,18}|[1-8][0-9]{18})"


def answer_http_error(error: HTTPException) -> Response | HTTPException:
    """Answer `abort(404)` and its like: a problem, or a page for a client that prefers HTML."""
    if error.response is not None or error.code is None or error.code < 400:
        return error  # it brings an answer of its own

    problem: dict[str, Any] = {
        "type": "about:blank",
        "title": error.name,
        "status": error.code,
        "detail": _detail(error),
    }
    if errors := _fields_at_fault(error):
        problem["errors"] = errors
    response = current_app.make_response(error.get_response())  # its headers stay: Allow, Retry-After
    if _prefers_page():
        response.content_type = "text/html; charset=utf-8"
        response.data = render_template("error.html", problem=problem)
    else:
        response.content_type = PROBLEM
        response.data = current_app.json.dumps(problem, sort_keys=False)
    response.vary.add("Accept")
    return response


def answer_database_error(error: Exception) -> Response | HTTPException:
    """Answer an error of the database that the client can do something about, also when the commit raises it.

    :raises Exception: the error itself, if it is a mistake of the app: it is logged and answered by 500.
    """
    known = http_error(error)
    if known is None:
        raise error
    if known.code != 409:  # whoever runs the app wants to know
        current_app.logger.error("answered by %s: %s", known.code, error)
    return answer_http_error(known)


def _detail(error: HTTPException) -> str:
    """Return what is wrong and what to do; Werkzeug's own words if they say it."""
    match error:
        case MethodNotAllowed(valid_methods=methods) if methods:
            return f"Use {', '.join(sorted(methods))}."
        case RequestEntityTooLarge() if (request.content_length or 0) > (request.max_content_length or 0):
            return f"Send at most {request.max_content_length} bytes."
        case BadRequestKeyError():
            return f"The field {error.args[0]!r} is missing."
        case BadRequest(__cause__=BadRequest() as cause):  # what is wrong with the JSON
            return f"{cause.description}."
    return error.description or error.name


def _fields_at_fault(error: HTTPException) -> list[dict[str, str]]:
    """Return a field and a message for each field that is at fault; an error of the app brings them as `errors`."""
    if isinstance(error, BadRequestKeyError):
        return [{"field": str(error.args[0]), "message": "missing"}]
    return getattr(error, "errors", [])


def _prefers_page() -> bool:
    """Return whether the client is a browser that shows a page; `curl` and scripts accept all alike."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > max(accepted["application/json"], accepted[PROBLEM])
