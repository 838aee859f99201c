"""What all resources share: edit only to change how every one of them reads requests and makes answers."""

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

from flask import abort, current_app, request
from flask.sansio.app import App
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.tag import Tag
from pydantic import BaseModel
from sqlalchemy import Select, func, select
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app.api.fields import PageQuery
from app.api.problems import problems
from app.db import session
from app.models import Base

Model = TypeVar("Model", bound=Base)


class Resource(APIBlueprint):
    """The routes under `/name`, or another prefix; their types say what is read and answered."""

    def __init__(self, name: str, import_name: str, *, url_prefix: str | None = None) -> None:
        """Describe the routes under one heading, and say that each may answer a problem."""
        super().__init__(
            name,
            import_name,
            url_prefix=url_prefix or f"/{name}",
            abp_tags=[Tag(name=name)],
            abp_responses=problems(422, "default"),
            operation_id_callback=_operation_id,
        )

    def register(self, app: App, options: dict[str, Any]) -> None:
        """Add the routes to `app`.

        :raises ValueError: for a prefix or a name that the description would not know of.
        """
        if options:
            raise ValueError(f"Give {', '.join(options)} to Resource({self.name!r}, ...), so that it is described too.")
        super().register(app, options)

    @staticmethod
    def create_view_func(func: Callable[..., Any], *models: Any, **options: Any) -> Callable[..., Any]:
        """Read JSON before `func` and its models see it, and make JSON of the model that it returns."""
        validated = APIBlueprint.create_view_func(func, *models, **options)

        @wraps(func)
        def view(**path: Any) -> Any:
            if "body" in func.__annotations__:
                _read_json()
            return as_response(current_app.ensure_sync(validated)(**path))

        return view


def _operation_id(*, bp_name: str, name: str, **_: str) -> str:
    """Return the name that a generated client gives to an operation, such as `users_show`."""
    return f"{bp_name}_{name}"


def _read_json() -> None:
    """Read the body: flask-openapi3 would take one that cannot be read for an empty one.

    :raises werkzeug.exceptions.BadRequest: for a body that is no JSON.
    :raises werkzeug.exceptions.RequestEntityTooLarge: for one that is too large, also if it does not say so.
    :raises werkzeug.exceptions.UnsupportedMediaType: for one that does not say that it is JSON.
    :raises werkzeug.exceptions.UnprocessableEntity: for JSON that is no object.
    """
    if not request.is_json:
        raise UnsupportedMediaType("Send JSON, and the header Content-Type: application/json.")
    try:
        size = len(request.get_data())
    except HTTPException:
        raise
    except Exception as error:  # of the server's own, when the body is cut off or its chunks are malformed
        raise BadRequest("The body cannot be read.") from error
    if not size:
        raise BadRequest("The body is empty: send a JSON object.")
    if request.content_length is None and size == request.max_content_length:  # Werkzeug cuts it there
        raise RequestEntityTooLarge
    try:
        body = request.get_json()
    except RecursionError:
        raise BadRequest("The JSON is nested too deeply.") from None
    if not isinstance(body, dict):
        raise UnprocessableEntity("Send a JSON object, in braces.")


def as_response(result: Any) -> Any:
    """Return what a view returned, alone or with a status and headers, with JSON in the place of a model."""
    model, *status_and_headers = result if isinstance(result, tuple) else (result,)
    if not isinstance(model, BaseModel):
        return result
    response = current_app.response_class(model.model_dump_json(by_alias=True), mimetype="application/json")
    return (response, *status_and_headers) if status_and_headers else response


def get_or_404(model: type[Model], row_id: int) -> Model:
    """Return a row.

    :raises werkzeug.exceptions.NotFound: if there is none.
    """
    found = session.get(model, row_id)
    if found is None:
        abort(404, f"There is no {model.__name__} {row_id}.")
    return found


def as_stored(row: Model) -> Model:
    """Return a row that was saved with the values that the database made of it, which a later GET will answer."""
    session.refresh(row)
    return row


def page_of(rows: Select[Any], query: PageQuery) -> dict[str, Any]:
    """Return the fields of a `Page`: those of `rows`, which have to be ordered, that `query` asks for."""
    total = session.scalar(select(func.count()).select_from(rows.order_by(None).subquery()))
    items = session.scalars(rows.limit(query.per_page).offset((query.page - 1) * query.per_page)).unique().all()
    return {"items": items, "page": query.page, "per_page": query.per_page, "total": total}
