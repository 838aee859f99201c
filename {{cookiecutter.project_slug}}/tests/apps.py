"""The app of the tests: made once, and anew after a test that has changed it. Edit only to make it in another way."""

from collections.abc import Iterator, Sequence
from typing import Any

from flask import Flask
from werkzeug.utils import cached_property

from app import create_app

CONTAINERS = (dict, list, tuple, set, frozenset)


class Apps:
    """Gives each test an app as `create_app` makes it."""

    app: Flask
    kept: Sequence[tuple[Any, Any]] = ()

    def take(self) -> Flask:
        """Return the app of the test before, if that has left it as it was; else a new one."""
        if self.kept:
            self.app._got_first_request = False  # Flask takes no more routes after that
        if not self.kept or any(now != then and _filled(now) != _filled(then) for now, then in self.kept):
            self.app = make_app()
            self.kept = [(container, _copy(container)) for container in containers_of(self.app)]
        return self.app


def make_app() -> Flask:
    """Return a new app, with what it would make with its first request."""
    app = create_app({"TESTING": True, "SECRET_KEY": "only for tests"})
    for name in dir(type(app)):
        if isinstance(getattr(type(app), name), cached_property):
            getattr(app, name)
    app.url_map.update()
    app._got_first_request = False
    return app


def containers_of(app: Flask) -> Iterator[Any]:
    """Yield what a test may change: the attributes of an app, those of its parts, and what is in them."""
    for part in (app, *vars(app).values()):
        yield from _containers_in(getattr(part, "__dict__", None))


def _containers_in(value: Any) -> Iterator[Any]:
    """Yield a container, and those within it."""
    if isinstance(value, CONTAINERS):
        yield value
        for item in value.values() if isinstance(value, dict) else value:
            yield from _containers_in(item)


def _copy(container: Any) -> Any:
    """Return a container with the same objects in it."""
    return next(kind for kind in CONTAINERS if isinstance(container, kind))(container)


def _filled(value: Any) -> Any:
    """Return a dictionary without empty containers: Flask makes them where it looks for a handler."""
    if not isinstance(value, dict):
        return value
    filled = {key: _filled(item) for key, item in value.items()}
    return {key: item for key, item in filled.items() if item or not isinstance(item, CONTAINERS)}
