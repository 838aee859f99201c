"""The problems that a resource answers, as `app/errors.py` makes them: which fields are at fault, and their description."""

from http import HTTPStatus
from typing import Any, NoReturn

from pydantic import BaseModel, ValidationError
from pydantic.json_schema import models_json_schema
from werkzeug.exceptions import UnprocessableEntity

from app.errors import PROBLEM


class InvalidFields(UnprocessableEntity):
    """422: fields of the request are at fault."""

    def __init__(self, error: ValidationError) -> None:
        """Name each field, and what is wrong with it."""
        self.errors = [
            {"field": ".".join(map(str, detail["loc"])), "message": detail["msg"]}
            for detail in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        super().__init__("; ".join(f"{fault['field']}: {fault['message']}" for fault in self.errors))


def refuse_fields(error: ValidationError) -> NoReturn:
    """Answer a request whose fields are at fault.

    :raises InvalidFields: always.
    """
    raise InvalidFields(error) from error


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
