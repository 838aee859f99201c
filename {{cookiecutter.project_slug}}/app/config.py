"""Settings from the environment and `.env`; a bad one is refused by name."""

import os
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from dotenv import load_dotenv
from flask import Flask
from flask.cli import FlaskGroup
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

ROOT = Path(__file__).resolve().parent.parent
"""The folder of `pyproject.toml`: `.env` and a relative path in `DATABASE_URL` start here."""

# What is set in the environment wins over the file.
load_dotenv(ROOT / ".env")

DRIVERS = {
    "sqlite": "sqlite",
    "sqlite+pysqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
    "mysql": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb": "mariadb+pymysql",
    "mariadb+pymysql": "mariadb+pymysql",
}
"""What `DATABASE_URL` may begin with, and the driver that is used for it."""


class SettingError(click.ClickException, ValueError):
    """A setting that cannot work: its name, its value and what would be right."""


def app_settings(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the Flask app: those of the environment, and `overrides` over them.

    :raises SettingError: for a value that cannot work, and if `overrides` names a setting of the engine, which exists
        before any app.
    """
    for name in overrides:
        if name.startswith(("DATABASE_", "SQLITE_")):
            raise SettingError(
                f"{name} cannot be given to create_app(): the engine is made when app.db is imported."
                f" Set {name} in the environment."
            )
    return {
        "SECRET_KEY": os.environ.get("SECRET_KEY", "").strip() or None,
        "MAX_CONTENT_LENGTH": number("MAX_CONTENT_LENGTH", default=16_000_000, unit="bytes"),
        **overrides,
        "TRANSACTION_ATTEMPTS": number("TRANSACTION_ATTEMPTS", default=10, unit="attempts", least=1, given=overrides),
        "TRANSACTION_MAX_BODY": number("TRANSACTION_MAX_BODY", default=1_000_000, unit="bytes", given=overrides),
    }


def database_url() -> URL:
    """Return `DATABASE_URL` with its driver named and a SQLite path made absolute.

    :raises SettingError: for a database or driver this app does not know, and for a database in memory.
    """
    text = os.environ.get("DATABASE_URL") or "sqlite:///app.sqlite3"
    shown = f"DATABASE_URL {_without_secrets(text)!r}"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise SettingError(
            f"{shown} is not a URL of a database: write sqlite:///app.sqlite3 or postgresql://user:password@host/name."
        ) from None

    driver = DRIVERS.get(url.drivername)
    if driver is None:
        raise SettingError(f"{shown} has no known database: use sqlite, postgresql, mysql or mariadb.")
    url = url.set(drivername=driver)
    module = driver.partition("+")[2]
    if module and find_spec(module) is None:
        package = {"psycopg": "psycopg[binary]", "pymysql": "PyMySQL"}[module]
        raise SettingError(
            f"{shown} needs the driver {package}, which is not installed:"
            " add it to the dependencies in pyproject.toml and run `make setup`."
        )
    if driver == "sqlite":
        return _sqlite_file(url, shown)
    if not url.database:
        raise SettingError(
            f"{shown} names no database: write its name last, as in postgresql://user:password@host/name."
        )
    return url


def _without_secrets(url: str) -> str:
    """Return a URL as it may be shown: a password stands before the last @, or in the query."""
    return url if url.startswith("sqlite") else re.sub(r"://.*@", "://***@", url).partition("?")[0]


def _sqlite_file(url: URL, shown: str) -> URL:
    """Return the URL of a SQLite file with an absolute path."""
    if not url.database or ":memory:" in url.database or url.query.get("mode") == "memory":
        raise SettingError(
            f"{shown} is a database in memory: every connection would see an empty one of its own."
            " Name a file, such as sqlite:///app.sqlite3."
        )
    if url.database.startswith("file:"):
        raise SettingError(f"{shown} is a SQLite URI: write the path alone, such as sqlite:///app.sqlite3.")
    path = ROOT / url.database
    if not path.parent.is_dir():
        raise SettingError(f"{shown} names a file in a folder that does not exist: make {str(path.parent)!r} first.")
    return url.set(database=str(path))


def choice(name: str, *allowed: str) -> str:
    """Return the setting `name`, one of `allowed`, the first if it is not set.

    :raises SettingError: for any other value.
    """
    value = os.environ.get(name) or allowed[0]
    if value.upper() not in allowed:
        raise SettingError(f"{name} {value!r} is not possible: use {', '.join(allowed[:-1])} or {allowed[-1]}.")
    return value.upper()


def number(name: str, default: int, unit: str, least: int = 0, given: Mapping[str, Any] | None = None) -> int:
    """Return the setting `name`, of `given` or of the environment: a whole number of `unit`, `least` or more.

    :raises SettingError: for any other value.
    """
    value = str(given[name]) if given and name in given else os.environ.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,12}", value) or int(value) < least:
        raise SettingError(
            f"{name} {value!r} is not a whole number of {unit}, {least} or more: write {default}, for example."
        )
    return int(value)


def refuse_unsafe_serving(app: Flask) -> None:
    """Refuse to answer requests without a secret outside debug and testing.

    :raises SettingError: in a server without `SECRET_KEY`; never in a `flask` command other than `flask run`, nor in an
        app that is made with `SERVING` set to False.
    """
    command = click.get_current_context(silent=True)
    flask_command = command is not None and isinstance(command.find_root().command, FlaskGroup)
    serving = not flask_command or (command is not None and command.info_name == "run")
    if serving and app.config.get("SERVING", True) and not (app.debug or app.testing or app.secret_key):
        raise SettingError(
            "SECRET_KEY is not set, and anybody could sign a session: put a long random text in .env or in the"
            " environment. `make setup` writes a .env with one, if there is none."
        )
    if app.debug and os.environ.get("SERVER_SOFTWARE", "").startswith("gunicorn"):
        raise SettingError("FLASK_DEBUG is on, and gunicorn serves: visitors would see the code. Unset FLASK_DEBUG.")
