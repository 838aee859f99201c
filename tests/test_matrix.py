"""Tests of every set of answers: all are generated and read, and each two answers meet in a project that is used."""

import ast
import json
import re
import tomllib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import pytest
import yaml

from tests.commands import PYTHON, check_project, run, run_module
from tests.conftest import Bake
from tests.matrix import ALL, PAIRWISE, Answers, expected_files, named
from tests.servers import SERVERS, database_on
from tests.serving import get, serving
from tests.test_readme import section

OTHERS = [answers for answers in ALL if answers not in PAIRWISE]
GROUPS = [pytest.param(PAIRWISE, marks=pytest.mark.daily), *(OTHERS[number::8] for number in range(8))]

ABSENT = {
    ("license", "none"): r"license",
    ("database", "sqlite"): r"^\s*\"?(psycopg|pymysql)",
    ("database", "postgresql"): r"^\s*\"?pymysql",
    ("database", "mysql"): r"^\s*\"?psycopg",
    ("api", "no"): r"openapi|pydantic|swagger|app[./]api|[^/]/docs\b",
    ("tasks", "no"): r"celery|redis\b|^worker:|app[./]tasks|TransactionalTask",
    ("docker", "no"): r"docker|compose",
    ("ci", "none"): r"github/workflows|gitlab-ci",
    ("ci", "github"): r"gitlab",
    ("ci", "gitlab"): r"github/workflows",
}
"""What no line of a project says that was made without it."""


@cache
def parse_python(text: str) -> None:
    """Parse Python; the same file of another project is not parsed again."""
    ast.parse(text)


PARSERS: dict[str, Callable[[str], object]] = {
    ".py": parse_python,
    ".toml": tomllib.loads,
    ".yml": yaml.safe_load,
    ".yaml": yaml.safe_load,
    ".json": json.loads,
}


def files(folder: Path) -> set[str]:
    """Return the paths of all files in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let Jinja compile a file of the template once for all projects: that is half the time that they take."""
    compile_source, kept = jinja2.Environment.compile, {}

    def compile_once(environment: jinja2.Environment, source: str, *names: Any, **options: Any) -> Any:
        key = (source, *names, *options.items())
        if key not in kept:
            kept[key] = compile_source(environment, source, *names, **options)
        return kept[key]

    monkeypatch.setattr(jinja2.Environment, "compile", compile_once)


@pytest.mark.parametrize("group", GROUPS, ids=["pairs", *map(str, range(8))])
@pytest.mark.usefixtures("compiled_once")
def test_every_project_has_its_files_and_is_clean(generate: Bake, group: list[Answers]) -> None:
    for number, answers in enumerate(group):
        project = generate(**answers, project_slug=f"project-{number}")
        assert files(project) == expected_files(answers), answers
        for name in files(project):
            check_text(name, (project / name).read_text(), answers)
        for name in files_that_the_readme_names(project):
            assert (project / name).exists(), f"{name} with {named(answers)}"

    # All at once: it takes less time than to start ruff for each.
    run_module("ruff", "check", "--no-cache", cwd=project.parent)
    run_module("ruff", "format", "--no-cache", "--check", cwd=project.parent)


def files_that_the_readme_names(project: Path) -> list[str]:
    """Return the first column of its table of files, but what `make setup` writes."""
    rows = re.findall(r"^\| (`.*?) \|", section(project, "Where things are"), re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`(.*?)`", row) if name != ".env"]


def check_text(name: str, text: str, answers: Answers) -> None:
    """Fail if a file of a project cannot be parsed, or has something of the template or of another answer in it."""
    where = f"{name} with {named(answers)}"
    PARSERS.get(Path(name).suffix, str)(text)
    assert text.endswith("\n"), where
    if not name.endswith((".html", "ci.yml")):  # Jinja of the app's own, and expressions of GitHub
        assert not re.search(r"cookiecutter\.\w+ ?\}|\{\{|\}\}|\{%|%\}", text), where
        assert not re.search(r"\n\n\n\n", text), where
        assert not re.search(r"[ \t]\n", text.replace("\n \n", "\n")), where  # a diff has empty lines with a space
    if name == ".cookiecutter.yml":
        kept = yaml.safe_load(text)["default_context"]
        said = {True: "yes", False: "no"}
        assert {question: said.get(kept[question], kept[question]) for question in answers} == answers, where
    if name == "LICENSE":
        assert text.split()[0] == answers["license"].partition("-")[0], where
    if name not in (".cookiecutter.yml", "LICENSE"):
        for answer in answers.items():
            if answer in ABSENT:
                found = re.search(ABSENT[answer], text.partition("\n## Follow the template")[0], re.I | re.M)
                assert not found, f"{where}: {found and found[0]}"


@pytest.mark.parametrize("answers", PAIRWISE, ids=named)
def test_a_project_is_typed_tested_migrated_and_served(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)

    check_project(project)
    run_module("alembic", "upgrade", "head", cwd=project)
    run_module("alembic", "check", cwd=project)
    with serving(PYTHON, "-m", "flask", "run", cwd=project, SECRET_KEY="x") as port:
        status, page = get(port, "/")
        assert status == 200
        for path in set(re.findall(r'href="(/[^"]*)"', page)) - {"/users/1"}:
            assert get(port, path)[0] == 200, path
        assert get(port, "/users/1")[0] == 404
        assert get(port, "/openapi.json")[0] == (200 if answers["api"] == "yes" else 404)


# What uses the database: all of it, and nothing.
ON_SERVERS = [
    answers
    for answers in ALL
    if answers["database"] in SERVERS
    and (answers["license"], answers["docker"], answers["ci"]) == ("none", "no", "none")
    and answers["api"] == answers["tasks"]
]


@pytest.mark.parametrize("answers", ON_SERVERS, ids=named)
def test_the_tests_of_a_project_pass_on_its_server(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)

    with database_on(SERVERS[answers["database"]]) as url:
        workers = ("-n", "2") if answers["api"] == "yes" else ()
        told = run(PYTHON, "-m", "pytest", "-q", *workers, cwd=project, variables={"TEST_DATABASE_URL": url}).stdout
        run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project, variables={"DATABASE_URL": url})
        run(PYTHON, "-m", "alembic", "check", cwd=project, variables={"DATABASE_URL": url})

    assert " passed" in told


@pytest.mark.parametrize("answers", PAIRWISE, ids=named)
def test_the_same_answers_give_the_same_bytes(generate: Bake, tmp_path: Path, answers: Answers) -> None:
    first = generate(**answers)
    first.rename(tmp_path / "first")

    second = generate(**answers)

    assert files(tmp_path / "first") == files(second)
    for name in files(second):
        one, other = tmp_path / "first" / name, second / name
        assert one.read_bytes() == other.read_bytes()
        assert one.stat().st_mode == other.stat().st_mode


def test_a_new_question_has_its_place(template: Path) -> None:
    questions = [name for name in json.loads((template / "cookiecutter.json").read_text()) if not name.startswith("_")]

    readme = (template / "README.md").read_text()
    kept = (template / "{{cookiecutter.project_slug}}" / ".cookiecutter.yml").read_text()
    prompts = json.loads((template / "cookiecutter.json").read_text())["__prompts__"]

    assert list(prompts) == questions
    for name in questions:
        assert f"| `{name}` |" in readme
        assert f"cookiecutter.{name}" in kept
