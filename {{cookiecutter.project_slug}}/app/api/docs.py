"""The documentation of the API: `/openapi.json` for programs, and Swagger UI at `/docs` for people."""

from importlib.resources import files

from flask import Blueprint, Response, current_app, render_template, request
from flask_openapi3.models import APISpec
from flask_openapi3.models.components import Components
from flask_openapi3.models.info import Info
from flask_openapi3.models.server import Server

from app.api.problems import SCHEMAS
from app.api.resource import Resource

TITLE = "{{ cookiecutter.project_name }}"

# Its files come with its package.
SWAGGER_UI = str(files("flask_openapi3_swagger") / "templates" / "swagger")
blueprint = Blueprint("docs", __name__, static_folder=SWAGGER_UI, static_url_path="/docs/swagger-ui")


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Describe the API (OpenAPI 3.1).

    :raises ValueError: if two resources have different models of one name, which would hide each other.
    """
    resources = [resource for resource in current_app.blueprints.values() if isinstance(resource, Resource)]
    schemas = SCHEMAS.copy()
    for resource in resources:
        for name, schema in resource.components_schemas.items():
            if schemas.setdefault(name, schema) != schema:
                raise ValueError(f"Two resources have a model {name}: rename one.")
    spec = APISpec(
        openapi="3.1.0",
        info=Info(
            title=TITLE,
            description="{{ cookiecutter.description }}",
            version="0.1.0",
        ),
        servers=[Server(url=request.script_root or "/")],
        tags=[tag for resource in resources for tag in resource.tags],
        paths={path: operations for resource in resources for path, operations in resource.paths.items()},
        components=Components(schemas=schemas),
    )
    return Response(spec.model_dump_json(by_alias=True, exclude_unset=True), mimetype="application/json")


@blueprint.get("/docs")
def page() -> str:
    """Show the operations of the API, and let the reader try them out."""
    return render_template("docs.html", title=TITLE)
