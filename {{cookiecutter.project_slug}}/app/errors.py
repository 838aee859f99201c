"""One shape for every error that a client sees: problem details (RFC 9457), or a page in a browser."""

from json import JSONDecodeError
from typing import Any

from flask import Flask, Response, current_app, request, url_for
from werkzeug.exceptions import (
    BadRequest,
    BadRequestKeyError,
    ClientDisconnected,
    HTTPException,
    MethodNotAllowed,
    RequestEntityTooLarge,
)

from app.contexts import answer_aborts_whole

PROBLEM = "application/problem+json"


class FieldError(HTTPException):
    """An error that says which fields of the request are at fault: combine it with a class that has a status."""

    def __init__(self, description: str, errors: list[dict[str, str]]) -> None:
        """Tell of each error the `field` and a `message`."""
        super().__init__(description)
        self.errors = errors


def init_app(app: Flask) -> None:
    """Answer the HTTP errors of `app`; a handler of its own for one of them comes first."""
    app.register_error_handler(HTTPException, answer_http_error)
    answer_aborts_whole(app)


def answer_http_error(error: HTTPException) -> Response | HTTPException:
    """Answer `abort(404)` and its like: a problem, or a page for a client that prefers HTML."""
    if error.response is not None or error.code is None or error.code < 400:
        return error  # it brings an answer of its own, or is none

    problem: dict[str, Any] = {"type": "about:blank", "title": error.name, "status": error.code}
    problem["detail"] = _detail(error)
    if errors := _errors(error):
        problem["errors"] = errors
    response = current_app.make_response(error.get_response())  # its headers stay: Allow, Retry-After
    if _prefers_page():
        # Without the app's context processors: they may need what has just failed.
        page = current_app.jinja_env.get_template("error.html")
        response.content_type = "text/html; charset=utf-8"
        response.data = page.render(
            problem=problem, style=url_for("static", filename="style.css"), start=f"{request.script_root}/"
        )
    else:
        response.content_type = PROBLEM
        response.data = current_app.json.dumps(problem, sort_keys=False)
    response.vary.add("Accept")
    return response


def _detail(error: HTTPException) -> str:
    """Return what is wrong and what to do; the words of Werkzeug where they say it."""
    limit = request.max_content_length
    match error:
        case MethodNotAllowed(valid_methods=methods) if methods:
            return f"Use {', '.join(sorted(methods))}."
        case RequestEntityTooLarge() if limit is not None and (request.content_length or limit) >= limit:
            return f"Send at most {limit} bytes."
        case BadRequestKeyError(args=[field]):
            return f"The field {field!r} is missing."
        case ClientDisconnected():
            return "The body is shorter than its Content-Length says."
        case BadRequest(description=BadRequest.description, __cause__=BadRequest(__context__=ValueError() as wrong)):
            return f"The body is not valid JSON{f': {wrong}' if isinstance(wrong, JSONDecodeError) else ''}."
    return str(error.description or error.name)


def _errors(error: HTTPException) -> list[dict[str, str]]:
    """Return the field and what is wrong with it, for each field that is known to be at fault."""
    match error:
        case FieldError():
            return error.errors
        case BadRequestKeyError(args=[field]):
            return [{"field": str(field), "message": "missing"}]
    return []


def _prefers_page() -> bool:
    """Return whether the client is a browser that shows a page; `curl` and scripts accept all alike."""
    accepted = request.accept_mimetypes
    return accepted["text/html"] > max(accepted["application/json"], accepted[PROBLEM])
