"""Tests of the settings: what is accepted, and what is refused by name."""

import click
import pytest
from flask.cli import FlaskGroup

from app import create_app
from app.config import ROOT, SettingError, choice, database_url, number


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("sqlite:///data.sqlite3", f"{ROOT}/data.sqlite3"),
        ("sqlite:////tmp/data.sqlite3", "/tmp/data.sqlite3"),
        ("", f"{ROOT}/app.sqlite3"),
    ],
)
def test_the_path_of_a_database_is_completed(monkeypatch: pytest.MonkeyPatch, given: str, used: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)

    assert database_url().database == used


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("postgres://h/d", "postgresql+psycopg"),
        ("postgresql://h/d", "postgresql+psycopg"),
        ("mysql://h/d", "mysql+pymysql"),
        ("mariadb://h/d", "mariadb+pymysql"),
    ],
)
def test_a_server_has_one_driver(monkeypatch: pytest.MonkeyPatch, given: str, driver: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    monkeypatch.setattr("app.config.find_spec", lambda _: object())

    assert database_url().drivername == driver


def test_a_driver_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://me:secret@host/shop")
    monkeypatch.setattr("app.config.find_spec", lambda _: None)

    with pytest.raises(SettingError, match=r"needs the driver psycopg\[binary\]") as refused:
        database_url()
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite:///file::memory:?uri=true", "in memory"),
        ("sqlite:///file:x?mode=memory&uri=true", "in memory"),
        ("sqlite:////no/such/folder/x.sqlite3", "does not exist"),
        ("mysq://me:se/cret?secret@host/shop?password=secret", "use sqlite, postgresql, mysql or mariadb"),
        ("postgresql+psycopg2://host/shop", "use sqlite, postgresql, mysql or mariadb"),
        ("shop.sqlite3", "is not a URL"),
    ],
)
def test_a_bad_database_url_is_refused(monkeypatch: pytest.MonkeyPatch, given: str, reason: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)

    with pytest.raises(SettingError, match=r"^DATABASE_URL '") as refused:
        database_url()
    assert reason in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_bad_choice_and_a_bad_number_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTING", "loud")

    with pytest.raises(SettingError, match="SETTING 'loud' is not possible: use FULL, NORMAL or OFF"):
        choice("SETTING", "FULL", "NORMAL", "OFF")
    with pytest.raises(SettingError, match="SETTING 'loud' is not a whole number of milliseconds"):
        number("SETTING", default=5000, unit="milliseconds")


@pytest.mark.parametrize("name", ["DATABASE_URL", "SQLITE_SYNCHRONOUS"])
def test_the_app_cannot_be_given_another_engine(name: str) -> None:
    with pytest.raises(SettingError, match=f"{name} cannot be given to create_app"):
        create_app({"TESTING": True, name: "x"})


def test_a_server_without_a_secret_is_refused() -> None:
    with pytest.raises(SettingError, match="SECRET_KEY is not set"):
        create_app()

    assert create_app({"SECRET_KEY": "given"}).secret_key == "given"
    assert create_app({"TESTING": True}).testing


@pytest.mark.parametrize("command", ["routes", "shell", "seed"])
def test_a_flask_command_that_does_not_serve_needs_no_secret(command: str) -> None:
    with click.Context(FlaskGroup()) as flask, click.Context(click.Command(command), flask, info_name=command):
        assert create_app().secret_key is None


def test_flask_run_without_a_secret_is_refused() -> None:
    with (
        click.Context(FlaskGroup()) as flask,
        click.Context(click.Command("run"), flask, info_name="run"),
        pytest.raises(SettingError, match="SECRET_KEY is not set"),
    ):
        create_app()


def test_a_server_that_is_a_command_itself_is_refused_too() -> None:
    with (
        click.Context(click.Command("granian"), info_name="granian"),
        pytest.raises(SettingError, match="SECRET_KEY is not set"),
    ):
        create_app()


def test_an_app_that_serves_nobody_needs_no_secret() -> None:
    assert create_app({"SERVING": False}).secret_key is None


def test_a_number_may_have_a_least_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSACTION_ATTEMPTS", "0")

    with pytest.raises(SettingError, match="TRANSACTION_ATTEMPTS '0' is not a whole number of attempts, 1 or more"):
        create_app()


@pytest.mark.parametrize("wrong", ["many", 0, None])
def test_so_it_is_if_the_app_is_given_it(wrong: object) -> None:
    assert create_app({"TESTING": True, "TRANSACTION_ATTEMPTS": "5"}).config["TRANSACTION_ATTEMPTS"] == 5

    with pytest.raises(SettingError, match=f"TRANSACTION_ATTEMPTS '{wrong}' is not a whole number of attempts"):
        create_app({"TRANSACTION_ATTEMPTS": wrong})
