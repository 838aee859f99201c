"""The pages for people, and the health check for machines."""

from flask import Blueprint, render_template

blueprint = Blueprint("pages", __name__)


@blueprint.get("/")
def index() -> str:
    """Show what this app is and where to look."""
    return render_template(
        "index.html",
        name="{{ cookiecutter.project_name }}",
        description="{{ cookiecutter.description }}",
    )


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """Answer that the process is alive; the database is not asked."""
    return {"status": "ok"}
