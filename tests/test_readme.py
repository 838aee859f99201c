"""Tests of the README of a generated project: its walks are followed to the letter, and its commands exist."""

import json
import re
import sys
from pathlib import Path

import pytest

from tests.commands import run
from tests.conftest import Bake
from tests.serving import get, serving

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


def install(project: Path) -> Path:
    """Give a project this environment in the place of its own."""
    (project / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (project / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (project / ".venv" / "installed").touch()
    return project


@pytest.fixture
def installed(bake: Bake) -> Path:
    """A project with this environment in the place of its own."""
    return install(bake())


@pytest.mark.parametrize(
    ("title", "api", "in_use"),
    [
        ("Replace `User` by your own model", "yes", False),
        ("Replace `User` by your own model", "yes", True),
        ("Replace `User` by your own model", "no", False),
        ("Replace `User` by your own model", "no", True),
        ("Add a resource of your own", "yes", True),
        ("Add a second model with a foreign key and a route", "no", True),
    ],
)
def test_a_walk_ends_green(bake: Bake, title: str, api: str, in_use: bool) -> None:
    installed = install(bake(api=api))
    if in_use:
        run("make", "setup", cwd=installed)
        run(".venv/bin/flask", "seed", cwd=installed)
        models = installed / "app" / "models.py"
        before = models.read_text()
        add_column(installed)
        run("make", "migration", "m=add nickname", cwd=installed)
        run("make", "migrate", cwd=installed)
        if title.startswith("Replace"):  # the walk shows the class as it was generated
            models.write_text(before)

    follow(installed, section(installed, title))

    run(".venv/bin/flask", "seed", cwd=installed)
    run(".venv/bin/alembic", "check", cwd=installed)


def test_a_new_column_as_the_readme_tells_it(installed: Path) -> None:
    run("make", "setup", cwd=installed)
    run(".venv/bin/flask", "seed", cwd=installed)
    walk = section(installed, "Edit the models")
    add_column(installed)

    follow(installed, walk[walk.index("Then write") :])

    run("make", "lint", "test", cwd=installed)


def add_column(project: Path) -> None:
    """Add the column of the README's walk to `User`."""
    column = FENCE.findall(section(project, "Edit the models"))[0][2]
    models = project / "app" / "models.py"
    models.write_text(models.read_text().replace("    __tablename__", f"{column}    __tablename__", 1))


def test_the_commands_for_the_api_are_answered_as_the_readme_says(installed: Path) -> None:
    run("make", "setup", cwd=installed)
    with serving(".venv/bin/flask", "run", cwd=installed) as port:
        assert get(port, "/healthz")[0] == 200

        def answers(title: str) -> list[str]:
            commands = FENCE.findall(section(installed, title))[0][2].replace(":5000", f":{port}").splitlines()
            return [run("bash", "-c", f"{command} -sS", cwd=installed).stdout for command in commands]

        added, shown, page, changed, deleted = answers("Use the API")
        (refused,) = answers("When a request fails")

    assert json.loads(added)["email"] == "emmy@example.com"
    assert shown == added
    assert json.loads(page)["items"] == [json.loads(added)]
    assert json.loads(changed)["name"] == "Emmy Noether"
    assert deleted == ""
    assert refused == FENCE.findall(section(installed, "When a request fails"))[1][2].rstrip()


@pytest.mark.parametrize("api", ["yes", "no"])
def test_the_example_can_be_deleted_without_a_successor(bake: Bake, api: str) -> None:
    installed = install(bake(api=api))
    walk = section(installed, "Replace `User` by your own model")
    for line in FENCE.findall(walk)[0][2].splitlines():
        run("bash", "-c", line, cwd=installed)
    models = installed / "app" / "models.py"
    models.write_text(models.read_text().partition("\n\nclass User(Base)")[0])
    (installed / "app" / "seed.py").unlink()
    factory = installed / "app" / "__init__.py"
    text = factory.read_text().replace(" seed,", "").replace(", users", "")
    factory.write_text("".join(line for line in text.splitlines(True) if "users." not in line and "seed." not in line))
    if api == "yes":
        resources = installed / "app" / "api" / "__init__.py"
        resources.write_text(resources.read_text().replace("docs, users", "docs").replace("[users.resource]", "[]"))

    run("make", "test", cwd=installed)


def test_every_target_of_make_stands_in_the_readme_with_its_command(bake: Bake) -> None:
    project = bake(tasks="yes")
    readme = (project / "README.md").read_text()
    makefile = (project / "Makefile").read_text()

    for target, recipe in re.findall(r"^([a-z]+):[^\n]*## [^\n]*\n((?:\t[^\n]*\n)+)", makefile, re.MULTILINE):
        if target != "help":
            (row,) = re.findall(rf"^\| `make {target}[ `].*$", readme, re.MULTILINE)
            for command in re.findall(r"\$\(BIN\)/(.*)", recipe):
                plain = command.replace("$(m)", "add a column")
                assert f"`{plain}`" in row


def test_every_setting_stands_in_the_readme_and_in_the_example(bake: Bake) -> None:
    project = bake(tasks="yes")
    source = "".join(path.read_text() for path in (project / "app").glob("*.py"))

    settings = set(re.findall(r'(?:os\.environ\.get|_url|choice|number)\("([A-Z_]+)"', source))
    settings -= {"SERVER_SOFTWARE", "WEB_CONCURRENCY"}  # those of gunicorn

    named = {"SECRET_KEY", "DATABASE_URL", "MAX_CONTENT_LENGTH", "SQLITE_SYNCHRONOUS", "SQLITE_BUSY_TIMEOUT"}
    named |= {"DATABASE_ISOLATION", "TRANSACTION_ATTEMPTS", "TRANSACTION_MAX_BODY", "TRUSTED_PROXIES", "LOG_LEVEL"}
    assert settings == named | {"CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"}
    for name in settings:
        assert f"| `{name}` |" in (project / "README.md").read_text()
        assert re.search(rf"^(# )?{name}=", (project / ".env.example").read_text(), re.MULTILINE)
