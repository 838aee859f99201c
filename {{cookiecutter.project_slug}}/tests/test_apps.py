"""Tests of the app that the tests share: each starts with one that nobody has changed."""

from collections.abc import Callable

import pytest
from flask import Flask
from werkzeug.middleware.proxy_fix import ProxyFix

from app import create_app
from tests.apps import Apps

CHANGES: dict[str, Callable[[Flask], object]] = {
    "a route": lambda app: app.add_url_rule("/new", view_func=lambda: ""),
    "a function before requests": lambda app: app.before_request(lambda: None),
    "a handler": lambda app: app.register_error_handler(404, lambda _: ("", 404)),
    "a setting": lambda app: app.config.update(NEW=1),
    "another value": lambda app: app.config.update(TESTING=False),
    "an attribute": lambda app: setattr(app, "secret_key", "other"),
    "an extension": lambda app: app.extensions.update(new=1),
    "a filter": lambda app: app.add_template_filter(str, "new"),
    "JSON": lambda app: setattr(app.json, "sort_keys", False),
    "a command": lambda app: app.cli.command("new")(lambda: None),
    "the server's function": lambda app: setattr(app, "wsgi_app", ProxyFix(app.wsgi_app)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_app_that_was_changed_is_made_anew(change: Callable[[Flask], object]) -> None:
    apps = Apps()
    first = apps.take()

    change(first)

    assert apps.take() is not first
    assert apps.take() is apps.take()


@pytest.mark.parametrize("path", ["/", "/nowhere"])
def test_an_app_that_has_only_answered_is_used_again(path: str) -> None:
    apps = Apps()
    first = apps.take()

    first.test_client().get(path)

    assert apps.take() is first
    first.add_url_rule("/new", view_func=lambda: "")  # as to a new one


def test_an_app_that_answers_while_it_is_made_is_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def create_and_ask(settings: dict[str, object]) -> Flask:
        app = create_app(settings)
        app.test_client().get("/")
        return app

    monkeypatch.setattr("tests.apps.create_app", create_and_ask)
    apps = Apps()

    assert apps.take() is apps.take()


def test_what_a_test_puts_in_the_place_of_a_container_is_looked_at_too() -> None:
    apps = Apps()
    first = apps.take()

    first.jinja_env.globals = dict(first.jinja_env.globals)
    assert apps.take() is first
    first.jinja_env.globals["new"] = 1

    assert apps.take() is not first
