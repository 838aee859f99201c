"""Tests of a generated project, and of the template as it lies here."""

import filecmp
import re
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest
import yaml

from tests.commands import PYTHON, check_project, run
from tests.conftest import RAW, ROOT, Bake
from tests.matrix import CHOICES

UNUSUAL = {
    "project_name": "Zoë's & 李明's Café ☕, 2nd “try”",
    "description": "Ça marche: 100 % #1, <b>&amp;</b> {curly} ${MONEY} 🚀",
    "author": "Renée O'Connor & 李明",
}


def files(folder: Path) -> set[str]:
    """Return the paths of all files in a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_project_with_unusual_answers_is_clean_and_its_tests_pass(bake: Bake) -> None:
    project = bake(**UNUSUAL)

    check_project(project)

    described = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    assert described["name"] == "zoe-s-li-ming-s-cafe-2nd-try"
    assert described["description"] == UNUSUAL["description"]
    assert described["authors"] == [{"name": UNUSUAL["author"]}]


@pytest.mark.parametrize(
    ("answer", "package", "begin", "end"),
    [
        ("MIT", "sqlalchemy", "Permission is hereby", ""),
        ("BSD-3-Clause", "flask", "Redistribution and use", ""),
        ("Apache-2.0", "openapi-spec-validator", "Apache License", "APPENDIX"),
    ],
)
def test_a_license_has_the_words_of_a_package_that_has_it_too(
    bake: Bake, answer: str, package: str, begin: str, end: str
) -> None:
    project = bake(license=answer, author="Zoë")

    text = " ".join((project / "LICENSE").read_text().split())
    words = begin + text.partition(begin)[2].partition(end or "\n")[0]
    (theirs,) = [path for path in distribution(package).files or () if "LICENSE" in path.name]
    assert len(words) > 1000
    assert words in " ".join(theirs.read_text().split())
    assert ("Copyright (c) Zoë" in text) is (answer != "Apache-2.0")
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["license"] == answer


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
            "license": "none",
            "docker": False,
            "ci": "none",
        },
    }


def test_a_project_can_be_generated_again_from_its_answers(bake: Bake, template: Path, tmp_path: Path) -> None:
    project = bake(**UNUSUAL, database="postgresql", api="no")

    answers = ("--config-file", project / ".cookiecutter.yml", "--output-dir", tmp_path / "again")
    run(PYTHON, "-m", "cookiecutter", "--no-input", *answers, template, cwd=tmp_path)

    assert_same(project, tmp_path / "again" / project.name)


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


def test_the_template_installs_all_that_a_project_may_install(bake: Bake) -> None:
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["dev"]

    for database in CHOICES["database"]:
        project = tomllib.loads(
            (bake(database=database, project_slug=database, tasks="yes") / "pyproject.toml").read_text()
        )
        assert {*project["project"]["dependencies"], *project["dependency-groups"]["dev"]} <= {
            name for name in own if isinstance(name, str)
        }


@pytest.mark.daily
def test_the_raw_template_is_clean_and_its_tests_pass(template: Path, tmp_path: Path) -> None:
    raw = tmp_path / RAW
    raw.mkdir()
    for name in files(template / RAW):
        (raw / name).parent.mkdir(parents=True, exist_ok=True)
        (raw / name).write_bytes((template / RAW / name).read_bytes())

    for path in raw.rglob("*.py"):
        compile(path.read_text(), str(path), "exec")
    check_project(raw)


def test_answers_stand_only_in_strings_comments_and_prose(template: Path) -> None:
    for path in (template / RAW).rglob("*.py"):
        for line in path.read_text().splitlines():
            assert "{{" not in line or re.search(r'"[^"]*\{\{ cookiecutter\.\w+ \}\}[^"]*"', line), f"{path}: {line}"
