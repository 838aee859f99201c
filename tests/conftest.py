"""The fixtures: the template as git tracks it, and the projects that are generated from it."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cookiecutter.main import cookiecutter

ROOT = Path(__file__).parent.parent
RAW = "{{cookiecutter.project_slug}}"

Bake = Callable[..., Path]


def copy_of_template(target: Path) -> Path:
    """Copy what git tracks, and what it would track, to `target`: no cache of this checkout comes along."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    for name in filter(None, listing.split("\0")):
        if (ROOT / name).exists():  # not for a file that was just deleted
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The template, as a clone would have it."""
    return copy_of_template(tmp_path_factory.mktemp("template"))


@pytest.fixture
def bake(template: Path, tmp_path: Path) -> Bake:
    """A function that generates a project from answers, without the settings of whoever runs the tests."""
    config = tmp_path / "config.yml"
    config.write_text(f"replay_dir: {tmp_path / 'replay'}\n")

    def bake(**answers: str) -> Path:
        """Return the folder of a new project."""
        return Path(
            cookiecutter(
                str(template),
                no_input=True,
                extra_context=answers,
                output_dir=str(tmp_path / "out"),
                config_file=str(config),
            )
        )

    return bake
