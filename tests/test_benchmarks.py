"""The benchmarks run; their figures are in README.md."""

import os
import re
import shutil
from pathlib import Path

import pytest

from tests.commands import PYTHON, run
from tests.conftest import RAW


def test_the_cost_of_requests_is_compared(template: Path) -> None:
    script = template / "benchmarks" / "requests.py"

    told = run(PYTHON, script, "--rounds", "1", "--requests", "5", cwd=template).stdout

    for contender in ("hand-written", "Flask-SQLAlchemy", "Advanced Alchemy", "generated app"):
        assert re.search(rf"^{contender} .*us x\d", told, re.MULTILINE), told
    assert not list((template / RAW).rglob("*.pyc"))


def test_the_cost_of_tests_is_compared(template: Path) -> None:
    script = template / "benchmarks" / "suites.py"

    told = run(PYTHON, script, "--tables", "3", "--tests", "3", "--rounds", "1", cwd=template).stdout

    assert re.search(r"^usual shape +\d+\.\d \(", told, re.MULTILINE), told
    assert re.search(r"^generated app +\d+\.\d \(", told, re.MULTILINE), told
    assert not list((template / RAW).rglob("*.pyc"))


def test_load_is_compared(template: Path) -> None:
    if shutil.which("wrk") is None:
        assert not os.environ.get("REQUIRE_SERVICES"), "no wrk"
        pytest.skip("no wrk on the PATH")
    script = template / "benchmarks" / "load.py"

    told = run(PYTHON, script, "--seconds", "1", "--requests", "1", cwd=template).stdout

    for kind in ("read", "write", "mix"):
        assert re.search(rf"^{kind} +generated app +\d+/s \(x\d.* 0 errors 5xx", told, re.MULTILINE), told
    assert re.search(r"^start of a worker.*: \d\.\d\d s$", told, re.MULTILINE), told
    assert not list((template / RAW).rglob("*.pyc"))
