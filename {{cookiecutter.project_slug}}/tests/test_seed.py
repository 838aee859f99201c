"""Tests of `flask seed`: edit them together with app/seed.py."""

from flask.testing import FlaskClient, FlaskCliRunner
from sqlalchemy import func, select
from sqlalchemy.orm import Session, scoped_session

from app.models import User


def test_seed_puts_rows_in_that_the_app_shows(runner: FlaskCliRunner, client: FlaskClient) -> None:
    result = runner.invoke(args=["seed"])

    assert result.exit_code == 0, result.output
    assert "Ada Lovelace: /users/1" in result.output
    assert "Ada Lovelace" in client.get("/users/1").text


def test_seed_can_be_run_again(runner: FlaskCliRunner, session: scoped_session[Session]) -> None:
    runner.invoke(args=["seed"])

    assert runner.invoke(args=["seed"]).exit_code == 0
    assert session.scalar(select(func.count()).select_from(User)) == 2
