"""Tests of the honest way: install a project from nothing, serve it, use it, restart it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import PYTHON, environment, installed_python, run
from tests.conftest import Bake
from tests.serving import get, serving


def path_without_uv() -> str:
    """Return the PATH without the folders that have uv."""
    return os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if not (Path(folder) / "uv").exists()
    )


def path_with_uv(tmp_path: Path) -> str:
    """Return the PATH with uv, and without the rest of this environment."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "uv").symlink_to(PYTHON.with_name("uv"))
    return f"{tmp_path / 'bin'}{os.pathsep}{path_without_uv()}"


def python_with_the_oldest_pip(folder: Path) -> Path:
    """Return a Python 3.11 whose environments begin with the pip of its first release."""
    python = folder / "python"
    python.write_text(OLDEST_PIP.format(python=installed_python("3.11")))
    python.chmod(0o755)
    return python


OLDEST_PIP = """#!/bin/sh
{python} "$@" || exit
if [ "$1 $2" = "-m venv" ]; then "$3/bin/python" -m pip install --quiet pip==22.3; fi
"""


@pytest.mark.parametrize("uv", [True, False], ids=["uv", "venv and the oldest pip"])
def test_a_project_is_installed_served_and_keeps_its_rows(bake: Bake, tmp_path: Path, uv: bool) -> None:
    project = bake()
    path = {"PATH": path_with_uv(tmp_path) if uv else path_without_uv()}
    python = f"PYTHON={python_with_the_oldest_pip(tmp_path)}"

    run("make", "setup", python, cwd=project, variables=path)

    assert (project / "uv.lock").exists() is uv
    secret = (project / ".env").read_text()
    assert re.search(r"^SECRET_KEY=[0-9a-f]{64}$", secret, re.MULTILINE)
    assert (project / ".env").stat().st_mode & 0o077 == 0
    run("make", "setup", python, cwd=project, variables=path)
    assert (project / ".env").read_text() == secret
    with (project / ".env.example").open("a") as example:  # as a newer template may do
        example.write("NEW_SECRET=\n")
    run("make", "setup", python, cwd=project, variables=path)
    assert re.fullmatch(re.escape(secret) + "NEW_SECRET=[0-9a-f]{64}\n", (project / ".env").read_text())

    with serving("make", "run", cwd=project, **path) as port:
        assert "app/models.py" in get(port, "/")[1]
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/users/1")[0] == 404
        run(project / ".venv" / "bin" / "flask", "seed", cwd=project)
        assert "Ada Lovelace" in get(port, "/users/1")[1]
    with serving("make", "run", cwd=project, **path) as port:
        assert "Ada Lovelace" in get(port, "/users/1")[1]

    assert " passed" in run("make", "test", cwd=project, variables=path).stdout
    run("make", "lint", cwd=project, variables=path)

    run("make", "lock", cwd=project, variables=path)
    assert re.search(r"^sqlalchemy==2\.", (project / "constraints.txt").read_text(), re.MULTILINE | re.IGNORECASE)
    run("make", "setup", python, cwd=project, variables=path)
    if uv:
        assert " passed" in run("uv", "run", "pytest", cwd=project, variables=path).stdout


def test_the_default_app_is_made_by_one_line(template: Path) -> None:
    run("make", "app", f"PYTHON={sys._base_executable}", cwd=template, variables={"PATH": path_without_uv()})  # type: ignore[attr-defined] # as above

    project = template.parent / "my-flask-app"
    with serving(project / ".venv" / "bin" / "flask", "run", cwd=project) as port:
        assert get(port, "/")[0] == 200


def test_serving_without_a_secret_is_refused_in_one_line(bake: Bake) -> None:
    project = bake()

    said = run(PYTHON, "-m", "flask", "run", cwd=project, ok=False).stderr

    assert said.startswith("Error: SECRET_KEY is not set")
    assert "Traceback" not in said
    for command in (["routes"], ["--help"], ["seed", "--help"], ["shell", "--help"]):
        assert "Traceback" not in run(PYTHON, "-m", "flask", *command, cwd=project).stderr
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)


@pytest.mark.parametrize(
    ("name", "value", "cure"),
    [
        ("DATABASE_URL", "mysq://h/d", "use sqlite, postgresql, mysql or mariadb"),
        ("DATABASE_URL", "sqlite://", "sqlite:///app.sqlite3"),
        ("SQLITE_SYNCHRONOUS", "MAYBE", "use FULL, NORMAL, OFF or EXTRA"),
        ("SQLITE_BUSY_TIMEOUT", "5s", "whole number of milliseconds"),
    ],
)
@pytest.mark.parametrize("command", [["flask", "run"], ["flask", "seed"], ["alembic", "upgrade", "head"]])
def test_a_bad_setting_stops_the_start_with_one_line(
    bake: Bake, command: list[str], name: str, value: str, cure: str
) -> None:
    said = run(PYTHON, "-m", *command, cwd=bake(), ok=False, variables={name: value, "SECRET_KEY": "x"})

    (line,) = [line for line in (said.stdout + said.stderr).splitlines() if name in line]
    assert value in line
    assert cure in line
    assert "Traceback" not in said.stderr


def test_the_settings_of_sqlite_reach_the_connection(bake: Bake) -> None:
    code = (
        "from app.db import session; from sqlalchemy import text\n"
        "print(*[session.scalar(text('PRAGMA ' + name)) for name in ('busy_timeout', 'synchronous', 'journal_mode')])"
    )
    project = bake()
    settings = {"SQLITE_BUSY_TIMEOUT": "123", "SQLITE_SYNCHRONOUS": "normal"}

    assert run(PYTHON, "-c", code, cwd=project).stdout.split() == ["5000", "2", "wal"]
    assert run(PYTHON, "-c", code, cwd=project, variables=settings).stdout.split() == ["123", "1", "wal"]


def test_the_shell_has_the_session_and_the_models(bake: Bake) -> None:
    project = bake()
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)

    shell = subprocess.run(
        [PYTHON, "-m", "flask", "shell"],
        cwd=project,
        env=environment(),
        input="print(User(name='Ada', email='a@b').save(), User.query.count(), session.commit())\n",
        capture_output=True,
        text=True,
    )

    assert "<User 1> 1 None" in shell.stdout


def test_the_database_stays_beside_the_project_wherever_the_app_is_run_from(bake: Bake, tmp_path: Path) -> None:
    project = bake()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    code = "from app.db import session; from sqlalchemy import text; session.execute(text('CREATE TABLE here (id INTEGER)'))"
    run(PYTHON, "-c", code, cwd=elsewhere, variables={"PYTHONPATH": str(project)})

    assert (project / "app.sqlite3").exists()
    assert list(elsewhere.iterdir()) == []


def test_the_tests_of_a_project_read_no_settings(bake: Bake) -> None:
    project = bake(tasks="yes")
    names = re.findall(r"^(?:# )?([A-Z_]+)=", (project / ".env.example").read_text(), re.MULTILINE)
    (project / ".env").write_text("".join(f"{name}=never\n" for name in names))

    run(PYTHON, "-m", "pytest", "-q", cwd=project, variables=dict.fromkeys(names, "never"))

    assert not (project / "app.sqlite3").exists()
