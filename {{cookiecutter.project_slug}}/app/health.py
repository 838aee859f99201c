"""The answers for machines: whether the process lives, and whether it can work."""

from functools import cache
from pathlib import Path

from flask import Blueprint, Response, current_app, jsonify
from sqlalchemy import inspect, text

from app.config import ROOT
from app.db import engine

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
def healthz() -> Response:
    """Answer that the process is alive; the database is not asked."""
    return _uncached("ok", 200)


@blueprint.get("/readyz")
def readyz() -> Response:
    """Answer whether requests can be sent here: 503 while the database is down, or behind the migrations."""
    state, reason = database_state()
    if reason:
        current_app.logger.warning("The database cannot be used: %s", reason)
    return _uncached(state, 503 if state in ("down", "behind") else 200)


def _uncached(status: str, code: int) -> Response:
    """Return an answer that nobody may keep."""
    response = jsonify(status=status)
    response.status_code = code
    response.headers["Cache-Control"] = "no-store"
    if code == 503:
        response.headers["Retry-After"] = "5"
    return response


def database_state() -> tuple[str, str]:
    """Return "ready", "down", "behind" (a migration has not been run) or "ahead" (of this version), and why it is down.

    A database that is ahead can be used: it has been migrated for the next version, which is about to replace this one.
    """
    try:
        with engine.connect() as connection:
            migrated = inspect(connection).has_table("alembic_version")
            current = set(connection.scalars(text("SELECT version_num FROM alembic_version"))) if migrated else set()
    except Exception as error:  # noqa: BLE001 (drivers raise what they like for a URL that they do not understand)
        return "down", str(getattr(error, "orig", error)).partition("\n")[0] or type(error).__name__
    known, heads = _revisions()
    if current - known:
        return "ahead", ""
    return ("ready" if current == heads else "behind"), ""


@cache
def _revisions() -> tuple[set[str], set[str]]:
    """Return the revisions of the migrations, and the newest of them."""
    from alembic.script import ScriptDirectory  # a tenth of a second, which the start of the app need not take

    scripts = ScriptDirectory(Path(ROOT / "migrations"))
    return {script.revision for script in scripts.walk_revisions()}, set(scripts.get_heads())
