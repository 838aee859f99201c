"""The users as JSON: an example of a route, to edit or to delete together with `User`."""

from typing import Any

from flask import Blueprint, abort

from app.db import session
from app.models import User

blueprint = Blueprint("users", __name__, url_prefix="/users")


@blueprint.get("/<int:user_id>")
def show(user_id: int) -> dict[str, Any]:
    """Return a user, or 404."""
    user = session.get(User, user_id)
    if user is None:
        abort(404)
    return {"id": user.id, "name": user.name, "email": user.email, "created_at": user.created_at.isoformat()}
