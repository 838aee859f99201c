"""What the tests know of a problem."""

from typing import Any

from werkzeug.test import TestResponse


def problem(response: TestResponse) -> dict[str, Any]:
    """Return the problem that a response tells."""
    assert response.mimetype == "application/problem+json"
    assert response.vary.as_set() >= {"accept"}
    told: dict[str, Any] = response.get_json()
    assert response.text.startswith('{"type": "about:blank", "title": ')
    assert {"type", "title", "status", "detail"} <= told.keys()
    assert (told["type"], told["status"]) == ("about:blank", response.status_code)
    return told
