"""The benchmarks run; their figures are in README.md."""

import re
from pathlib import Path

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
