"""Tests of app/urls.py."""

from flask import Flask
from flask.testing import FlaskClient


def test_a_number_that_no_column_can_hold_is_not_found(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule("/row/<int:number>", view_func=lambda number: str(number), endpoint="show")
    app.add_url_rule("/row/<int:number>", view_func=lambda number: str(number), endpoint="delete", methods=["DELETE"])

    for found in ("0", "7", "9" * 18, "8" + "9" * 18):
        assert client.delete(f"/row/{found}").text == found
    for lost in ("9" * 19, "1" * 20, "9" * 5000, "-1", "1.5", "x", "٣"):
        assert client.get(f"/row/{lost}").status_code == 404
        assert client.delete(f"/row/{lost}").status_code == 404
