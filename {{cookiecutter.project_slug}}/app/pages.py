"""The pages for people."""

from flask import Blueprint, render_template

blueprint = Blueprint("pages", __name__)

LINKS = {
    "/users/1": "an example row, if flask seed has written it",
    # {% if cookiecutter.api %}
    "/docs": "the API, to read and to try out",
    # {% endif %}
    "/healthz": "the health check",
}


@blueprint.get("/")
def index() -> str:
    """Show what this app is and where to look."""
    return render_template(
        "index.html",
        name="{{ cookiecutter.project_name }}",
        description="{{ cookiecutter.description }}",
        links=LINKS,
    )
