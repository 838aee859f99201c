"""Tests of the README of a generated project: its walks are followed to the letter, and its commands exist."""

import re
import sys
from pathlib import Path

import pytest

from tests.commands import run
from tests.conftest import Bake

FENCE = re.compile(r"^```(\w+) ?([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(project: Path, title: str) -> str:
    """Return the text under a heading of the README."""
    return (project / "README.md").read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def follow(project: Path, walk: str) -> None:
    """Do what a section says: run its commands, write its files, make its changes."""
    for language, path, text in FENCE.findall(walk):
        if language == "sh":
            for line in text.splitlines():
                run("bash", "-c", line.partition("  #")[0], cwd=project)
        elif language == "diff":
            change(project, text)
        else:
            assert path, text
            (project / path).write_text(text)


def change(project: Path, diff: str) -> None:
    """Make the changes of a diff, each where its old lines stand."""
    path = project / diff.splitlines()[1].removeprefix("+++ b/")
    text = path.read_text()
    for hunk in diff.partition("@@\n")[2].split("@@\n"):
        old = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " -")
        new = "".join(line[1:] for line in hunk.splitlines(keepends=True) if line[0] in " +")
        assert text.count(old) == 1, f"{path} has {text.count(old)} times:\n{old}"
        text = text.replace(old, new)
    path.write_text(text)


@pytest.fixture
def installed(bake: Bake) -> Path:
    """A project with this environment in the place of its own."""
    project = bake()
    (project / ".venv").mkdir()
    (project / ".venv" / "bin").symlink_to(Path(sys.prefix) / "bin")
    (project / ".venv" / "installed").touch()
    return project


@pytest.mark.parametrize(
    "title", ["Replace `User` by your own model", "Add a second model with a foreign key and a route"]
)
@pytest.mark.parametrize("with_database", [False, True], ids=["new project", "project in use"])
def test_a_walk_ends_green(installed: Path, title: str, with_database: bool) -> None:
    if with_database or title.startswith("Add"):
        run("make", "setup", cwd=installed)
        run(".venv/bin/flask", "seed", cwd=installed)

    follow(installed, section(installed, title))

    run(".venv/bin/flask", "seed", cwd=installed)
    run(".venv/bin/alembic", "check", cwd=installed)


def test_a_new_column_as_the_readme_tells_it(installed: Path) -> None:
    run("make", "setup", cwd=installed)
    run(".venv/bin/flask", "seed", cwd=installed)
    walk = section(installed, "Edit the models")
    column = FENCE.findall(walk)[0][2]
    models = installed / "app" / "models.py"
    models.write_text(models.read_text().replace("    created_at: ", f"{column}    created_at: "))

    follow(installed, walk[walk.index("Then write") :])

    run("make", "lint", cwd=installed)


def test_the_example_can_be_deleted_without_a_successor(installed: Path) -> None:
    walk = section(installed, "Replace `User` by your own model")
    for line in FENCE.findall(walk)[0][2].splitlines():
        run("bash", "-c", line, cwd=installed)
    models = installed / "app" / "models.py"
    models.write_text(models.read_text().partition("\n\nclass User(Base)")[0])
    (installed / "app" / "seed.py").unlink()
    factory = installed / "app" / "__init__.py"
    text = factory.read_text().replace("pages, seed, transactions, users", "pages, transactions")
    factory.write_text("".join(line for line in text.splitlines(True) if "users." not in line and "seed." not in line))

    run("make", "test", cwd=installed)


def test_every_target_of_make_stands_in_the_readme_with_its_command(bake: Bake) -> None:
    project = bake()
    readme = (project / "README.md").read_text()
    makefile = (project / "Makefile").read_text()

    for target, recipe in re.findall(r"^([a-z]+):[^\n]*## [^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE):
        if target != "help":
            (row,) = re.findall(rf"^\| `make {target}[ `].*$", readme, re.MULTILINE)
            for command in re.findall(r"\$\(BIN\)/(.*)", recipe):
                plain = command.replace("$(m)", "add a column")
                assert f"`{plain}`" in row


def test_every_setting_stands_in_the_readme_and_in_the_example(bake: Bake) -> None:
    project = bake()
    source = "".join(path.read_text() for path in (project / "app").glob("*.py"))

    settings = set(re.findall(r'(?:environ\.get|choice|number)\("([A-Z_]+)"', source))

    assert {"SECRET_KEY", "DATABASE_URL", "SQLITE_SYNCHRONOUS", "SQLITE_BUSY_TIMEOUT"} == settings
    for name in settings:
        assert f"| `{name}` |" in (project / "README.md").read_text()
        assert re.search(rf"^(# )?{name}=", (project / ".env.example").read_text(), re.MULTILINE)
