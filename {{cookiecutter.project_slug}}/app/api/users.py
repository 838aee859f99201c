"""The users: copy this file for a resource of your own."""

from datetime import datetime

from flask import url_for
from pydantic import BaseModel
from sqlalchemy import select

from app.api.fields import Answer, Body, Changes, Email, Page, PageQuery, Text, stored_in
from app.api.problems import problems
from app.api.resource import Resource, as_stored, get_or_404, page_of
from app.models import User

resource = Resource("users", __name__)


class UserPath(BaseModel):
    """Which user."""

    user_id: int


class NewUser(Body):
    """What a new user needs."""

    name: Text = stored_in(User.name)
    email: Email = stored_in(User.email)


class UserChanges(Changes, NewUser):
    """What can be changed; what is left out stays."""


class UserAnswer(Answer):
    """A user, as the API shows it."""

    id: int
    name: str
    email: str
    created_at: datetime


class UserPage(Page[UserAnswer]):
    """Some of the users."""


@resource.get("", responses={200: UserPage})
def index(query: PageQuery) -> UserPage:
    """List the users."""
    return UserPage.model_validate(page_of(select(User).order_by(User.id), query))


@resource.post("", responses={201: UserAnswer, **problems(400, 409, 413, 415)})
def create(body: NewUser) -> tuple[UserAnswer, int, dict[str, str]]:
    """Add a user."""
    user = User(**body.model_dump()).save()
    return UserAnswer.model_validate(as_stored(user)), 201, {"Location": url_for("users.show", user_id=user.id)}


@resource.get("/<int:user_id>", responses={200: UserAnswer, **problems(404)})
def show(path: UserPath) -> UserAnswer:
    """Show a user."""
    return UserAnswer.model_validate(get_or_404(User, path.user_id))


@resource.patch("/<int:user_id>", responses={200: UserAnswer, **problems(400, 404, 409, 413, 415)})
def update(path: UserPath, body: UserChanges) -> UserAnswer:
    """Change a user."""
    user = get_or_404(User, path.user_id).update(**body.model_dump(exclude_unset=True))
    return UserAnswer.model_validate(as_stored(user))


@resource.delete("/<int:user_id>", responses={204: None, **problems(404, 409)})
def delete(path: UserPath) -> tuple[str, int]:
    """Delete a user."""
    get_or_404(User, path.user_id).delete()
    return "", 204
