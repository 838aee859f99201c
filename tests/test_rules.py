"""The rules that only the template may break: each file of `in_project/` runs among the tests of a generated app."""

import shutil
from pathlib import Path

import pytest

from tests.commands import run_module
from tests.conftest import Bake

pytestmark = pytest.mark.daily

IN_PROJECT = sorted((Path(__file__).parent / "in_project").glob("test_*.py"))


@pytest.mark.parametrize("file", IN_PROJECT, ids=lambda path: path.stem)
def test_the_rules_hold(bake: Bake, file: Path) -> None:
    project = bake()
    shutil.copy(file, project / "tests")

    result = run_module("pytest", "-q", f"tests/{file.name}", cwd=project)

    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
