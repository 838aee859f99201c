"""The app of the tests: made once, and anew after a test that has changed it. Edit only to make it in another way."""

from typing import Any

from flask import Flask
from werkzeug.utils import cached_property

from app import create_app

CONTAINERS = (dict, list, tuple, set, frozenset)


class Apps:
    """Gives each test an app as `create_app` makes it."""

    app: Flask
    contents: Any = None

    def take(self) -> Flask:
        """Return the app of the test before, if that has left it as it was; else a new one."""
        if self.contents is None or self.contents != contents_of(self.app):
            self.app = create_app({"TESTING": True, "SECRET_KEY": "only for tests"})
            finish(self.app)
            self.contents = contents_of(self.app)
        self.app._got_first_request = False  # Flask takes no more routes after that
        return self.app


def finish(app: Flask) -> None:
    """Let an app make what it would make with its first request."""
    for name in dir(type(app)):
        if isinstance(getattr(type(app), name), cached_property):
            getattr(app, name)
    app.url_map.update()


def contents_of(app: Flask) -> Any:
    """Return what a test may change: the attributes of an app, and those of its parts."""
    parts = {name: part for name, part in vars(app).items() if name != "_got_first_request"}
    return {name: (_copy(part), _copy(getattr(part, "__dict__", None))) for name, part in parts.items()}


def _copy(value: Any) -> Any:
    """Return a copy of containers within containers, of what they contain the very objects.

    Empty ones do not count: Flask makes them where it looks for a handler.
    """
    if isinstance(value, dict):
        copied = dict(value)
        for key, item in value.items():
            if isinstance(item, CONTAINERS):
                copied[key] = _copy(item)
                if not copied[key]:
                    del copied[key]
        return copied
    if isinstance(value, CONTAINERS):
        return [_copy(item) if isinstance(item, CONTAINERS) else item for item in value]
    return value
