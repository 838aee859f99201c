"""How the tests run commands: with the tools of this environment, and in an environment of nobody."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

# What an activated environment, a caller's settings or a CI machine would slip into a project.
FOREIGN = (
    "VIRTUAL_ENV",
    "TEST_DATABASE_URL",
    "PYTHONPATH",
    "PYTHONDONTWRITEBYTECODE",
    "SECRET_KEY",
    "DATABASE_URL",
    "FLASK_APP",
    "CI",  # pytest prints its errors in full there
    "BUILD_NUMBER",
)

PYTHON = Path(sys.executable)


# The types of the libraries are the same in all projects: mypy reads them once.
MYPY_CACHE = Path(__file__).parent.parent / ".cache" / "projects" / os.environ.get("PYTEST_XDIST_WORKER", "main")

# What the tests of the template bring along, and a project does not have: it takes as long as all other imports of pytest.
NO_PLUGINS = "-p no:schemathesis -p no:hypothesispytest -p no:anyio"


def environment(**variables: str) -> dict[str, str]:
    """Return the environment of this process without what is foreign to a project, and with `variables`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name not in FOREIGN}
    return kept | {"MYPY_CACHE_DIR": str(MYPY_CACHE), "PYTEST_ADDOPTS": NO_PLUGINS} | variables


def run(
    *command: str | Path, cwd: Path, ok: bool = True, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in `cwd` and return what it printed; fail if its exit code is not as expected, or after ten minutes."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment(**(variables or {})),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (done.returncode == 0) is ok, f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def run_module(module: str, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a Python tool of this environment in `cwd`."""
    return run(PYTHON, "-m", module, *arguments, cwd=cwd)


def installed_python(version: str) -> Path:
    """Return a Python on the PATH or of pyenv; skip the test, by name, where there is none."""
    found = shutil.which(f"python{version}")
    if found and subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode == 0:
        return Path(found)
    if shutil.which("pyenv"):
        root = subprocess.run(["pyenv", "root"], capture_output=True, text=True, check=True).stdout.strip()
        for python in sorted(Path(root).glob(f"versions/{version}.*/bin/python")):
            return python
    pytest.skip(f"no Python {version} on the PATH or in pyenv")


def check_project(project: Path) -> None:
    """Check style, format and types of a project, and run its tests."""
    run_module("ruff", "check", cwd=project)
    run_module("ruff", "format", "--check", cwd=project)
    run_module("mypy", cwd=project)
    result = run_module("pytest", "-q", cwd=project)
    assert " passed" in result.stdout
    assert "skipped" not in result.stdout
