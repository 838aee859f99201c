"""The JSON API: a module for each resource. Add yours to `RESOURCES`."""

from flask import Flask

from app.api import docs, users
from app.api.problems import refuse_fields
from app.api.resource import Resource

RESOURCES: list[Resource] = [users.resource]


def init_app(app: Flask) -> None:
    """Add the resources and their documentation to `app`."""
    # flask-openapi3 looks for it on an app class of its own, in which `app.get` is no longer that of Flask.
    vars(app)["validation_error_callback"] = refuse_fields
    for resource in RESOURCES:
        app.register_blueprint(resource)
    app.register_blueprint(docs.blueprint)
