"""Tests of what the template writes for every set of answers."""

import filecmp
import re
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.commands import PYTHON, check_project, run
from tests.conftest import RAW, ROOT, Bake

DATABASES = ["sqlite", "postgresql", "mysql"]
NO_OR_YES = ("no", "yes")
ANSWERS = [
    {"database": database, "api": api, "tasks": tasks}
    for database in DATABASES
    for api in NO_OR_YES
    for tasks in NO_OR_YES
]
# Each pair of two answers is among them.
SOME_ANSWERS = [ANSWERS[number] for number in (0, 3, 5, 6, 9, 10)]

FILES = {
    ".cookiecutter.yml",
    ".env.example",
    ".gitignore",
    "Makefile",
    "README.md",
    "app/__init__.py",
    "app/blocks.py",
    "app/bodies.py",
    "app/callbacks.py",
    "app/columns.py",
    "app/config.py",
    "app/conflicts.py",
    "app/contexts.py",
    "app/database_errors.py",
    "app/db.py",
    "app/decisions.py",
    "app/engines.py",
    "app/errors.py",
    "app/models.py",
    "app/pages.py",
    "app/savepoints.py",
    "app/seed.py",
    "app/static/style.css",
    "app/streams.py",
    "app/templates/error.html",
    "app/templates/index.html",
    "app/transactions.py",
    "app/turns.py",
    "app/uncommitted.py",
    "app/urls.py",
    "migrations/autogenerate.py",
    "migrations/env.py",
    "migrations/script.py.mako",
    "migrations/versions/0001_create_users.py",
    "pyproject.toml",
    "tests/__init__.py",
    "tests/conftest.py",
    "tests/apps.py",
    "tests/database.py",
    "tests/factories.py",
    "tests/mysql.py",
    "tests/postgresql.py",
    "tests/queries.py",
    "tests/servers.py",
    "tests/test_apps.py",
    "tests/test_fixtures.py",
    "tests/test_queries.py",
    "tests/test_blocks.py",
    "tests/test_bodies.py",
    "tests/test_callbacks.py",
    "tests/test_columns.py",
    "tests/test_config.py",
    "tests/test_conflicts.py",
    "tests/test_contexts.py",
    "tests/test_database.py",
    "tests/test_database_errors.py",
    "tests/test_db.py",
    "tests/test_errors.py",
    "tests/test_migrations.py",
    "tests/test_models.py",
    "tests/test_pages.py",
    "tests/test_savepoints.py",
    "tests/test_seed.py",
    "tests/test_streams.py",
    "tests/test_transactions.py",
    "tests/test_turns.py",
    "tests/test_uncommitted.py",
    "tests/test_urls.py",
    "tests/problems.py",
    "tests/things.py",
}

FILES_OF_THE_API = {
    "app/api/__init__.py",
    "app/api/docs.py",
    "app/api/fields.py",
    "app/api/problems.py",
    "app/api/resource.py",
    "app/api/users.py",
    "app/static/docs.js",
    "app/templates/docs.html",
    "tests/api/__init__.py",
    "tests/api/test_docs.py",
    "tests/api/test_fields.py",
    "tests/api/test_resource.py",
    "tests/api/test_users.py",
}

FILES_WITHOUT_API = {"app/users.py", "tests/test_users.py"}

FILES_OF_THE_TASKS = {"app/tasks.py", "tests/test_tasks.py"}

UNUSUAL = {
    "project_name": "Zoë's & 李明's Café ☕, 2nd “try”",
    "description": "Ça marche: 100 % #1, <b>&amp;</b> {curly} ${MONEY} 🚀",
    "author": "Renée O'Connor & 李明",
}


def files(folder: Path) -> set[str]:
    """Return the paths of all files in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def named(answers: dict[str, str]) -> str:
    """Return the name of a set of answers."""
    return "-".join(f"{name}={answer}" for name, answer in answers.items())


@pytest.mark.parametrize("answers", ANSWERS, ids=named)
def test_a_project_has_exactly_these_files(bake: Bake, answers: dict[str, str]) -> None:
    expected = FILES | (FILES_OF_THE_API if answers["api"] == "yes" else FILES_WITHOUT_API)

    assert files(bake(**answers)) == expected | (FILES_OF_THE_TASKS if answers["tasks"] == "yes" else set())


@pytest.mark.parametrize("answers", ANSWERS, ids=named)
def test_nothing_of_jinja_is_left(bake: Bake, answers: dict[str, str]) -> None:
    project = bake(**answers)

    for name in {name for name in files(project) if not name.endswith(".html")}:
        text = (project / name).read_text()
        assert "cookiecutter." not in text, name
        assert not re.search(r"\{\{|\}\}|\{%|%\}", text), name
        assert not re.search(r"\n\n\n\n", text), name
        assert not re.search(r"[ \t]\n", text.replace("\n \n", "\n")), name  # a diff has empty lines with a space
        assert text.endswith("\n"), name


@pytest.mark.parametrize("answers", SOME_ANSWERS, ids=named)
def test_a_project_is_clean_and_its_tests_pass(bake: Bake, tmp_path: Path, answers: dict[str, str]) -> None:
    check_project(bake(**answers), cache=tmp_path / "mypy")


def test_a_project_with_unusual_answers_is_clean_and_its_tests_pass(bake: Bake, tmp_path: Path) -> None:
    project = bake(**UNUSUAL)

    check_project(project, cache=tmp_path / "mypy")

    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert described["name"] == "zoe-s-li-ming-s-cafe-2nd-try"
    assert described["description"] == UNUSUAL["description"]
    assert described["authors"] == [{"name": UNUSUAL["author"]}]


def test_a_project_knows_its_answers_and_the_version_of_the_template(bake: Bake) -> None:
    answers = yaml.safe_load((bake(**UNUSUAL, database="mysql") / ".cookiecutter.yml").read_text())

    assert answers == {
        "template_version": "0.1.0",
        "default_context": {
            **UNUSUAL,
            "project_slug": "zoe-s-li-ming-s-cafe-2nd-try",
            "database": "mysql",
            "api": True,
            "tasks": False,
        },
    }


def test_a_project_can_be_generated_again_from_its_answers(bake: Bake, template: Path, tmp_path: Path) -> None:
    project = bake(**UNUSUAL, database="postgresql", api="no")

    answers = ("--config-file", project / ".cookiecutter.yml", "--output-dir", tmp_path / "again")
    run(PYTHON, "-m", "cookiecutter", "--no-input", *answers, template, cwd=tmp_path)

    assert_same(project, tmp_path / "again" / project.name)


@pytest.mark.parametrize("answers", ANSWERS, ids=named)
def test_the_same_answers_give_the_same_bytes(bake: Bake, tmp_path: Path, answers: dict[str, str]) -> None:
    first = bake(**answers)
    first.rename(tmp_path / "first")

    assert_same(tmp_path / "first", bake(**answers))


def assert_same(one: Path, other: Path) -> None:
    """Fail unless two folders have the same files with the same bytes and modes."""
    assert files(one) == files(other)
    _, different, failed = filecmp.cmpfiles(one, other, files(one), shallow=False)
    assert not different
    assert not failed
    assert all((one / name).stat().st_mode == (other / name).stat().st_mode for name in files(one))


def test_each_database_installs_its_driver_and_shows_its_url(bake: Bake) -> None:
    for database, driver, url in (
        ("sqlite", None, "sqlite:///"),
        ("postgresql", "psycopg[binary]", "postgresql://"),
        ("mysql", "pymysql", "mysql://"),
    ):
        project = bake(database=database, project_slug=database)
        dependencies = tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
        drivers = [name for name in dependencies if name.startswith(("psycopg", "pymysql"))]
        assert [name.partition(">")[0] for name in drivers] == ([driver] if driver else [])
        assert f"# DATABASE_URL={url}" in (project / ".env.example").read_text()


def test_without_the_api_nothing_of_it_is_installed(bake: Bake) -> None:
    project = bake(api="no")

    for path in project.rglob("*"):
        if path.is_file():
            assert not re.search(r"openapi|pydantic|swagger|app\.api|[^/]/docs\b", path.read_text(), re.IGNORECASE), (
                path
            )


def test_without_the_tasks_nothing_of_them_is_installed(bake: Bake) -> None:
    project = bake()

    for path in project.rglob("*"):
        if path.is_file():
            assert not re.search(
                r"celery|redis\b|^worker:|app\.tasks|TransactionalTask", path.read_text(), re.IGNORECASE
            ), path


def test_the_template_installs_all_that_a_project_may_install(bake: Bake) -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]

    for database in DATABASES:
        project = tomllib.loads(
            (bake(database=database, project_slug=database, tasks="yes") / "pyproject.toml").read_text()
        )
        assert {*project["project"]["dependencies"], *project["dependency-groups"]["dev"]} <= {
            name for name in own if isinstance(name, str)
        }


def test_the_raw_template_is_clean_and_its_tests_pass(template: Path, tmp_path: Path) -> None:
    raw = tmp_path / RAW
    raw.mkdir()
    for name in files(template / RAW):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes((template / RAW / name).read_bytes())

    for path in raw.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    check_project(raw, cache=tmp_path / "mypy")


def test_answers_stand_only_in_strings_comments_and_prose(template: Path) -> None:
    for path in (template / RAW).rglob("*.py"):
        for line in path.read_text().splitlines():
            assert "{{" not in line or re.search(r'"[^"]*\{\{ cookiecutter\.\w+ \}\}[^"]*"', line), f"{path}: {line}"
