"""The documentation of the API: `/openapi.json` for programs, and Swagger UI at `/docs` for people."""

from importlib.resources import files
from typing import Any

from flask import Blueprint, Response, current_app, make_response, render_template, request, send_from_directory
from flask_openapi3.models import APISpec
from flask_openapi3.models.components import Components
from flask_openapi3.models.info import Info
from flask_openapi3.models.server import Server

from app.api.problems import SCHEMAS
from app.api.resource import Resource

blueprint = Blueprint("docs", __name__, template_folder="templates", static_folder="static", static_url_path="/docs")
TITLE = "{{ cookiecutter.project_name }}"
SWAGGER_UI = str(files("flask_openapi3_swagger") / "templates" / "swagger")

# No script but the app's own files runs on the page, and it asks nobody else for anything.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@blueprint.get("/openapi.json")
def openapi() -> dict[str, Any]:
    """Describe the API (OpenAPI 3.1)."""
    resources = [resource for resource in current_app.blueprints.values() if isinstance(resource, Resource)]
    schemas = {name: schema for resource in resources for name, schema in resource.components_schemas.items()}
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
        components=Components(schemas=SCHEMAS | schemas),
    )
    return spec.model_dump(mode="json", by_alias=True, exclude_unset=True)


@blueprint.get("/docs")
def page() -> Response:
    """Show the operations of the API, and let the reader try them out."""
    response = make_response(render_template("docs.html", title=TITLE))
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    return response


@blueprint.get("/docs/swagger-ui/<path:name>")
def swagger_ui(name: str) -> Response:
    """Serve a file of Swagger UI, which its package brings."""
    return send_from_directory(SWAGGER_UI, name)
