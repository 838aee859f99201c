"""The fixtures: the template as git tracks it, and the projects that are generated from it."""

import json
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
def generate(template: Path, tmp_path: Path) -> Bake:
    """A function that generates a project from answers, without the settings of whoever runs the tests."""
    config = tmp_path / "config.yml"
    config.write_text(f"replay_dir: {tmp_path / 'replay'}\n")

    def generate(**answers: str) -> Path:
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

    return generate


@pytest.fixture(scope="session")
def generated() -> dict[str, Path]:
    """The projects that were generated already, by their answers."""
    return {}


@pytest.fixture
def bake(generate: Bake, generated: dict[str, Path], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """A function that generates a project, or copies the one that the same answers have made."""

    def bake(**answers: str) -> Path:
        """Return the folder of a new project."""
        key = json.dumps(answers, sort_keys=True)
        if key in generated:
            return Path(shutil.copytree(generated[key], tmp_path / "out" / generated[key].name))
        project = generate(**answers)
        generated[key] = tmp_path_factory.mktemp("generated") / project.name
        shutil.copytree(project, generated[key])
        return project

    return bake
