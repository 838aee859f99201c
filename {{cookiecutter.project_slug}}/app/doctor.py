"""The command `flask doctor`: what is wrong with the settings and with what the app depends on, and what to do."""

import os
from collections.abc import Callable
from typing import Literal

import click
from flask import Flask, current_app
from flask.cli import with_appcontext
from sqlalchemy import text

from app.config import number
from app.db import engine
from app.engines import MAX_OVERFLOW, POOL_SIZE
from app.health import database_state
from app.logs import without_passwords

Finding = tuple[Literal["ok", "problem", "not checked"], str]
"""How it is, and what to say of it: of a problem, with the cure."""


@click.command()
@with_appcontext
def doctor() -> None:
    """Check the settings, the database and the queue as they are here; exit with 1 if there is a problem."""
    problems = 0
    for what in CHECKS:
        level, told = examine(current_app, what)
        problems += level == "problem"
        click.secho(f"{level:11}  {what:12}  {told}", fg={"problem": "red", "not checked": "yellow"}.get(level))
    raise SystemExit(1 if problems else 0)


def examine(app: Flask, what: str) -> Finding:
    """Check one thing; what prevents that is a problem too."""
    try:
        level, told = CHECKS[what](app)
    except Exception as error:  # noqa: BLE001 (drivers raise what they like for a setting that they do not understand)
        level, told = "problem", f"{type(error).__name__}: {error}: correct the setting"
    return level, without_passwords(told.replace("\n", " "))


def check_secret(app: Flask) -> Finding:
    """Check what the sessions of the clients are signed with."""
    secret = str(app.secret_key or "")
    if len(secret) >= 32 and len(set(secret)) >= 10:
        return "ok", f"has {len(secret)} characters"
    wrong = f"has {len(secret)} characters, {len(set(secret))} of them different" if secret else "is not set"
    return "problem", f'{wrong}: write what `python -c "import secrets; print(secrets.token_hex())"` prints'


def check_debug(app: Flask) -> Finding:
    """Check that no visitor gets a debugger."""
    return ("problem", "is on, and shows the code to visitors: unset it") if app.debug else ("ok", "is off")


def check_cookies(app: Flask) -> Finding:
    """Check that the client's session is kept from scripts, and sent by HTTPS alone."""
    if app.debug:
        return "not checked", "in debug mode they go by HTTP too"
    for name in ("SESSION_COOKIE_SECURE", "SESSION_COOKIE_HTTPONLY"):
        if not app.config[name]:
            return "problem", f"{name} is off: remove the setting"
    return "ok", "are kept from scripts and from HTTP"


def check_proxies(_app: Flask) -> Finding:
    """Say whom the app believes where a request comes from."""
    proxies = number("TRUSTED_PROXIES", default=0, unit="proxies")
    if proxies:
        return "ok", f"{proxies} in front of the app: no request may reach it but through them"
    return "not checked", "TRUSTED_PROXIES is 0: behind a proxy that ends HTTPS, set it to 1"


def check_database(_app: Flask) -> Finding:
    """Check that the database answers, and can be written."""
    shown = engine.url.set(query={}).render_as_string()  # the query may hold a password
    state, reason = database_state()
    if state == "down":
        return "problem", f"{shown}: {reason}: start it, or correct DATABASE_URL"
    with engine.connect() as connection:
        if engine.name == "sqlite":
            try:
                connection.execution_options(sqlite_begin="IMMEDIATE").execute(text("SELECT 1"))
            except Exception as error:  # noqa: BLE001 (whatever it is)
                return "problem", f"{shown}: {error}: make the file and its folder writable"
        else:
            variable = {"postgresql": "current_setting('transaction_read_only') = 'on'"}.get(engine.name, "@@read_only")
            if connection.scalar(text(f"SELECT {variable}")):
                return "problem", f"{shown} can only be read: name the primary server in DATABASE_URL"
    return "ok", f"{shown} answers"


def check_migrations(_app: Flask) -> Finding:
    """Check that the database is what the models expect."""
    match database_state()[0]:
        case "down":
            return "not checked", "the database cannot be asked"
        case "behind":
            return "problem", "one has not been run: run `alembic upgrade head`"
        case "ahead":
            return "problem", "the database has one that this version does not know: deploy the newer version"
    return "ok", "all have been run"


def check_durability(_app: Flask) -> Finding:
    """Check that what was answered stays, and that no update is lost."""
    level = os.environ.get("DATABASE_ISOLATION", "").upper()
    synchronous = os.environ.get("SQLITE_SYNCHRONOUS", "").upper()
    if engine.name == "sqlite":
        if synchronous == "OFF":
            return "problem", "SQLITE_SYNCHRONOUS is OFF, and a power cut may destroy the database: use FULL"
        if synchronous == "NORMAL":
            return "ok", "no update is lost; a power cut may take the last commits: SQLITE_SYNCHRONOUS is NORMAL"
    # With REPEATABLE READ, PostgreSQL and MariaDB refuse to overwrite what they have not seen; MySQL does it.
    elif level == "READ COMMITTED" or (
        level == "REPEATABLE READ" and engine.name == "mysql" and not getattr(engine.dialect, "is_mariadb", False)
    ):
        return "problem", f"DATABASE_ISOLATION is {level}, and updates can be lost: use DEFAULT"
    return "ok", "no update is lost, and what was committed stays"


def check_connections(_app: Flask) -> Finding:
    """Check that the server has a connection for each that the processes may open."""
    if engine.name == "sqlite":
        return "not checked", "SQLite has no limit"
    if database_state()[0] == "down":
        return "not checked", "the database cannot be asked"
    limit = {
        "postgresql": "SELECT current_setting('max_connections')::int"
        " - current_setting('superuser_reserved_connections')::int"
    }.get(engine.name, "SELECT @@max_connections")
    with engine.connect() as connection:
        allowed: int = connection.execute(text(limit)).scalar_one()
    processes = number("WEB_CONCURRENCY", default=2, unit="processes", least=1)
    each = POOL_SIZE + MAX_OVERFLOW
    told = f"{processes} processes may open {processes * each}, and the server allows {allowed}"
    if processes * each > allowed:
        return "problem", f"{told}: lower WEB_CONCURRENCY to {max(allowed // each, 1)}, or raise max_connections"
    return "ok", told


# {%- if cookiecutter.tasks +%}


def check_queue(_app: Flask) -> Finding:
    """Check that tasks can be queued."""
    from app.tasks import examine_queue  # Celery takes a tenth of a second, which the start of the app need not take

    return examine_queue()


# {%- endif +%}


CHECKS: dict[str, Callable[[Flask], Finding]] = {
    "SECRET_KEY": check_secret,
    "FLASK_DEBUG": check_debug,
    "cookies": check_cookies,
    "proxies": check_proxies,
    "database": check_database,
    "migrations": check_migrations,
    "durability": check_durability,
    "connections": check_connections,
    # {% if cookiecutter.tasks %}
    "queue": check_queue,
    # {% endif %}
}
"""What is checked, in this order."""
