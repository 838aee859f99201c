"""Tests of a project with each Python that is installed here, and with the lowest versions that it allows."""

from contextlib import nullcontext
from pathlib import Path

import pytest

from tests.commands import PYTHON, installed_python, run
from tests.conftest import Bake
from tests.servers import SERVERS, database_on

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
UV = PYTHON.with_name("uv")


def install(project: Path, python: Path, *options: str) -> None:
    """Install a project by uv, with the given Python."""
    run(UV, "sync", "--quiet", "--no-managed-python", "--python", python, *options, cwd=project)


@pytest.mark.parametrize("version", PYTHONS)
def test_a_project_works_with_the_newest_packages_on_this_python(bake: Bake, version: str) -> None:
    python = installed_python(version)
    project = bake(tasks="yes")

    install(project, python, "--upgrade")

    assert run(".venv/bin/python", "--version", cwd=project).stdout.startswith(f"Python {version}.")
    assert " passed" in run(".venv/bin/pytest", "-q", cwd=project).stdout


@pytest.mark.parametrize("database", ["sqlite", "postgresql", "mysql"])
def test_a_project_works_with_the_lowest_versions_that_it_allows(bake: Bake, database: str) -> None:
    python = installed_python("3.11")
    project = bake(database=database, tasks="yes")

    install(project, python, "--resolution", "lowest-direct")

    flask = "from importlib.metadata import version; print(version('flask'))"
    assert run(".venv/bin/python", "-c", flask, cwd=project).stdout == "3.1.3\n"
    with database_on(SERVERS[database]) if database in SERVERS else nullcontext("") as url:
        told = run(".venv/bin/pytest", "-q", cwd=project, variables={"TEST_DATABASE_URL": url}).stdout
    assert " passed" in told
