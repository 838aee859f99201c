"""How a resource names the fields that are at fault, and describes its problems: edit together with app/errors.py."""

from http import HTTPStatus
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from werkzeug.exceptions import UnprocessableEntity

from app.errors import PROBLEM, FieldError

MAX_ERRORS = 20
"""How many fields are named: a client could send a million that are wrong."""


class InvalidFieldsError(FieldError, UnprocessableEntity):
    """422: fields of the request are at fault."""


def refuse_fields(error: ValidationError) -> NoReturn:
    """Refuse a request whose fields are at fault.

    :raises InvalidFieldsError: always.
    """
    faults = error.errors(include_url=False)[:MAX_ERRORS]
    errors = [{"field": ".".join(map(str, fault["loc"]))[:100], "message": fault["msg"]} for fault in faults]
    detail = "; ".join(": ".join(filter(None, named.values())) for named in errors)
    raise InvalidFieldsError(detail, [named for named in errors if named["field"]]) from error


class FieldAtFault(BaseModel):
    """A field that is at fault."""

    field: str
    message: str


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[FieldAtFault] = []


_REFERENCE = "#/components/schemas/{model}"
_, _schemas = models_json_schema([(Problem, "validation")], ref_template=_REFERENCE)
SCHEMAS: dict[str, Any] = _schemas["$defs"]
"""The schemas that the descriptions of problems refer to."""


def problems(*statuses: int | str) -> dict[str | int | HTTPStatus, Any]:
    """Describe answers that are problems; `"default"` is any other status."""
    schema = {"$ref": _REFERENCE.format(model="Problem")}
    media_type = {"schema": schema}
    described: dict[str | int | HTTPStatus, Any] = {}
    for status in statuses:
        phrase = HTTPStatus(status).phrase if isinstance(status, int) else "Any other problem"
        described[status] = {"content": {PROBLEM: media_type}, "description": phrase}
    return described
