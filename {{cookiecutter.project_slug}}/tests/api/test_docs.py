"""Tests of app/api/docs.py."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.api.fields import Body
from app.api.resource import Resource
from app.headers import CONTENT_SECURITY_POLICY
from tests.api import test_resource


def test_the_api_is_described(app: Flask, client: FlaskClient) -> None:
    app.register_blueprint(test_resource.resource)

    description: dict[str, Any] = client.get("/openapi.json").get_json()

    assert description["openapi"].startswith("3.1")
    create = description["paths"]["/things"]["post"]
    assert (create["operationId"], create["summary"], create["tags"]) == ("things_create", "Add a thing.", ["things"])
    assert {"201", "422", "default"} <= create["responses"].keys()
    assert create["responses"]["default"]["content"].keys() == {"application/problem+json"}
    schemas = description["components"]["schemas"]
    assert {"called", "id"} == schemas["ThingAnswer"]["properties"].keys()
    assert schemas["NewThing"]["properties"]["name"]["pattern"]
    assert "errors" not in schemas["Problem"]["required"]
    assert {"name": "things"} in description["tags"]


def test_two_models_of_one_name_are_refused(app: Flask, client: FlaskClient) -> None:
    class NewThing(Body):
        """Another one."""

    other = Resource("others", __name__)

    def create(body: Body) -> str:
        return ""

    create.__annotations__["body"] = NewThing
    other.post("")(create)
    app.register_blueprint(test_resource.resource)
    app.register_blueprint(other)

    with pytest.raises(ValueError, match="have a model NewThing: rename one"):
        client.get("/openapi.json")


def test_the_description_names_the_path_that_the_app_is_mounted_at(client: FlaskClient) -> None:
    mounted: dict[str, Any] = client.get("/openapi.json", environ_overrides={"SCRIPT_NAME": "/shop"}).get_json()

    assert mounted["servers"] == [{"url": "/shop"}]


def test_every_file_that_the_page_needs_is_served_by_the_app(client: FlaskClient) -> None:
    page = client.get("/docs").text

    needed = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert len(needed) == 4
    for path in needed:
        assert client.get(path, buffered=True).status_code == 200, path


def test_the_page_allows_no_script_but_the_files_of_the_app(client: FlaskClient) -> None:
    response = client.get("/docs")

    assert response.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY
    assert not re.search(r"<script(?![^>]*src=)|<style|\bon\w+=", response.text)


def test_no_file_outside_swagger_ui_is_served(client: FlaskClient) -> None:
    assert client.get("/docs/swagger-ui/../__init__.py").status_code == 404
    assert client.get("/docs/swagger-ui/%2e%2e/__init__.py").status_code == 404
