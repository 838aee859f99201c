"""Tests of app/pages.py."""

import re

from flask.testing import FlaskClient


def test_the_first_page_says_what_the_app_is_and_loads_nothing_from_elsewhere(client: FlaskClient) -> None:
    response = client.get("/")

    assert response.mimetype == "text/html"
    assert "app/models.py" in response.text
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", response.text)
