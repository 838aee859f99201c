"""What all resources share: how requests are read, answers are made, and lists are cut into pages."""

from typing import Any, TypeVar

from flask import abort, current_app, request
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from sqlalchemy import Select, func, select
from werkzeug.exceptions import BadRequest, UnprocessableEntity, UnsupportedMediaType

from app.api.fields import PageQuery
from app.api.problems import problems
from app.db import session
from app.models import Base

Model = TypeVar("Model", bound=Base)


class Resource(APIBlueprint):
    """The routes under `/name`; their types say what is read and answered."""

    def __init__(self, name: str, import_name: str) -> None:
        """Make the routes refuse a body that is no JSON before its fields are looked at."""
        super().__init__(
            name,
            import_name,
            url_prefix=f"/{name}",
            abp_tags=[Tag(name=name)],
            abp_responses=problems(422, "default"),
            operation_id_callback=_operation_id,
        )
        self.before_request(_read_json)


def _operation_id(*, bp_name: str, name: str, **_: str) -> str:
    """Return the name that a generated client gives to an operation, such as `users_show`."""
    return f"{bp_name}_{name}"


def _read_json() -> None:
    """Read the body of a route that declares one: flask-openapi3 takes what cannot be read for an empty body.

    :raises werkzeug.exceptions.BadRequest: for a body that is no JSON.
    :raises werkzeug.exceptions.UnsupportedMediaType: for one that does not say that it is JSON.
    :raises werkzeug.exceptions.UnprocessableEntity: for JSON that is no object.
    """
    view = current_app.view_functions[request.endpoint or ""]
    if "body" not in view.__annotations__:
        return
    if not request.is_json:
        raise UnsupportedMediaType("Send JSON, and the header Content-Type: application/json.")
    if not request.get_data():
        raise BadRequest("The body is empty: send a JSON object.")
    try:
        body = request.get_json()
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None
    if not isinstance(body, dict):
        raise UnprocessableEntity("Send a JSON object, in braces.")


def answer(result: Any, _responses: object) -> Any:
    """Make JSON of a model that a view returned, alone or with a status and headers."""
    model, *status_and_headers = result if isinstance(result, tuple) else (result,)
    if not isinstance(model, BaseModel):
        return result
    response = current_app.response_class(model.model_dump_json(), mimetype="application/json")
    return (response, *status_and_headers) if status_and_headers else response


def get_or_404(model: type[Model], row_id: int) -> Model:
    """Return a row.

    :raises werkzeug.exceptions.NotFound: if there is none.
    """
    found = session.get(model, row_id)
    if found is None:
        abort(404, f"There is no {model.__name__} {row_id}.")
    return found


def page_of(rows: Select[Any], query: PageQuery) -> dict[str, Any]:
    """Return the fields of a `Page`: those of `rows`, which have to be ordered, that `query` asks for."""
    total = session.scalar(select(func.count()).select_from(rows.order_by(None).subquery()))
    items = session.scalars(rows.limit(query.per_page).offset((query.page - 1) * query.per_page)).all()
    return {"items": items, "page": query.page, "per_page": query.per_page, "total": total}
