"""The numbers in URLs: edit only if a path may have larger ones."""

from flask import Flask
from werkzeug.routing import IntegerConverter


class StorableInteger(IntegerConverter):
    """`<int:id>` in a URL: a number that no column can hold is not found, like any other that is not there."""

    # Up to 8,999,999,999,999,999,999. Not in `to_python`: what that refuses is answered by 405 where the URL has
    # routes for other methods too.
    regex = "(?:[0-9]{1,18}|[1-8][0-9]{18})"


def init_app(app: Flask) -> None:
    """Let `<int:...>` be storable. Call it before routes are added."""
    app.url_map.converters["int"] = StorableInteger
