"""Tests of the way a project takes over a newer template: as its README says, from older states of this repository."""

import io
import os
import re
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from cookiecutter.main import cookiecutter

from tests.commands import PYTHON, run
from tests.conftest import ROOT
from tests.servers import database_on
from tests.test_readme import FENCE, install, section

OLDER = {
    "the first one": "407fcff4141adc73c5a9b604c40323247082f2fb",
    "before the API": "ef32a3717d010d16a82dd02e1c188c4a2e428c97",
    "with the API": "b465e23788be56c30fe343bd3a83846817eb3b9d",
    "with transactions": "31a7fd84ac7ffb0faf5467eb82c8f687c11a7ec3",
    "with the test kit": "2cb88702ac04dadb481ce26ce934d1b6bedfd8c7",
}
"""States of the template, and the commits that hold them."""

Generate = Callable[..., Path]


@pytest.fixture
def generate(tmp_path: Path, template: Path) -> Generate:
    """A function that generates a project from a state of the template, with git."""

    def generate(commit: str | None = None, **answers: str) -> Path:
        """Return the folder of a new project, whose only commit holds it as it was generated."""
        folder = template_at(commit, tmp_path / "older") if commit else template
        config = tmp_path / "config.yml"
        config.write_text(f"replay_dir: {tmp_path / 'replay'}\n")
        options = {"extra_context": {"project_slug": "shop", **answers}, "config_file": str(config)}
        project = Path(cookiecutter(str(folder), no_input=True, output_dir=str(tmp_path / "mine"), **options))
        return start_git(project)

    return generate


def start_git(project: Path) -> Path:
    """Commit a project as it was generated, and return it."""
    git(project, "init", "--quiet", "--initial-branch", "main")
    git(project, "config", "user.name", "Ada")
    git(project, "config", "user.email", "ada@example.com")
    return commit_all(project, "Generate the project")


def template_at(commit: str, folder: Path) -> Path:
    """Write the template as it was in a commit to a folder."""
    archive = subprocess.run(["git", "archive", commit], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
    return folder


def git(project: Path, *arguments: str, ok: bool = True) -> str:
    """Run git in a project and return what it printed."""
    return run("git", *arguments, cwd=project, ok=ok).stdout


def commit_all(project: Path, message: str) -> Path:
    """Commit everything, and return the project."""
    git(project, "add", "--all")
    git(project, "commit", "--quiet", "--message", message)
    return project


def edit(project: Path) -> None:
    """Work on a project: a column with its migration, and a module with its test."""
    models = project / "app" / "models.py"
    text = models.read_text()
    email = next(line for line in text.splitlines(keepends=True) if line.startswith("    email: Mapped[str]"))
    models.write_text(text.replace(email, f"{email}    nickname: Mapped[str | None] = mapped_column(String(100))\n"))
    run(PYTHON, "-m", "alembic", "upgrade", "head", cwd=project)
    run(PYTHON, "-m", "alembic", "revision", "--autogenerate", "-m", "add nickname", cwd=project)
    (project / "app" / "prices.py").write_text('"""Prices."""\n\nVAT = 19\n')
    (project / "tests" / "test_prices.py").write_text(PRICES)
    commit_all(project, "Add nicknames and prices")


PRICES = '''"""Tests of app/prices.py."""

from app.models import User
from app.prices import VAT


def test_the_tax_is_known() -> None:
    assert VAT == 19


def test_a_user_has_a_nickname() -> None:
    assert User(name="Ada", email="ada@example.com", nickname="Countess").save().nickname == "Countess"
'''


def update(project: Path, template: Path, *answers: str, once: bool = True) -> set[str]:
    """Take over the newest template as the README of a new project says; return the files with conflicts."""
    with TemporaryDirectory() as elsewhere:
        named = {"project_slug": "shop"}
        new = Path(cookiecutter(str(template), no_input=True, extra_context=named, output_dir=elsewhere))
        first, each_time = [text for _, _, text in FENCE.findall(section(new, "Follow the template"))]
    *commands, merge, make = each_time.replace(" &&\n", "\n").splitlines()
    assert (merge, make) == ("git merge template", "make setup lint test")
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"
    for command in (first, *commands) if once else commands:
        here = command.replace("gh:OWNER/cookiecutter-flask-sqlalchemy", " ".join((str(template), *answers)))
        run("bash", "-c", here, cwd=project, variables={"PATH": path})
    subprocess.run(["git", "merge", "--quiet", "template"], cwd=project, check=False, capture_output=True)
    assert not list((project.parent / "update").iterdir())
    return set(git(project, "diff", "--name-only", "--diff-filter=U").splitlines())


def assert_sound(project: Path, **variables: str) -> None:
    """Fail unless all is committed, and what stands last in the README succeeds, with this environment."""
    assert git(project, "status", "--porcelain") == ""
    assert "nickname" in (project / "app" / "models.py").read_text()
    install(project)
    told = run("make", "--assume-old", ".venv/installed", "setup", "lint", "test", cwd=project, variables=variables)
    assert " passed" in told.stdout
    run(".venv/bin/alembic", "check", cwd=project, variables=variables)


@pytest.mark.parametrize("state", OLDER)
def test_an_edited_project_follows_without_a_conflict(generate: Generate, template: Path, state: str) -> None:
    project = generate(OLDER[state])
    edit(project)

    conflicts = update(project, template, *([] if "API" in (project / "README.md").read_text() else ["api=no"]))

    assert conflicts == set()
    assert_sound(project)


def test_who_has_edited_the_same_as_the_template_is_asked(generate: Generate, template: Path) -> None:
    project = generate(OLDER["with the API"])
    edit(project)
    (project / "README.md").write_text("# Shop\n\nOurs.\n")
    (project / "tests" / "test_seed.py").unlink()  # the template has not changed it since
    (project / "tests" / "test_models.py").unlink()
    settings = project / "pyproject.toml"
    settings.write_text(settings.read_text().replace('swagger>=5.31",\n', 'swagger>=5.31",\n    "humanize>=4",\n'))
    commit_all(project, "Make it ours")

    conflicts = update(project, template)

    assert conflicts == {"README.md", "tests/test_models.py", "pyproject.toml"}
    merged = settings.read_text()
    assert re.search(r"^<<<<<<< .*humanize.*^=======.*gunicorn.*^>>>>>>> ", merged, re.MULTILINE | re.DOTALL)
    settings.write_text(re.sub(r"^(<<<<<<<|=======|>>>>>>>).*\n", "", merged, flags=re.MULTILINE))
    git(project, "checkout", "--ours", "README.md")
    git(project, "rm", "--quiet", "tests/test_models.py")
    commit_all(project, "Merge the template")
    assert (project / "README.md").read_text() == "# Shop\n\nOurs.\n"
    assert not (project / "tests" / "test_seed.py").exists()
    assert_sound(project)


def test_an_answer_is_changed_by_the_same_commands(generate: Generate, template: Path) -> None:
    project = generate()
    edit(project)

    assert update(project, template, "database=postgresql", "tasks=yes", "docker=yes", "ci=gitlab") == set()

    answers = yaml.safe_load((project / ".cookiecutter.yml").read_text())["default_context"]
    assert (answers["database"], answers["tasks"]) == ("postgresql", True)
    assert (project / "compose.yaml").exists()
    with database_on("postgresql") as url:
        assert_sound(project, DATABASE_URL=url, TEST_DATABASE_URL=f"{url}_tests")


def test_who_follows_twice_merges_only_what_is_new(generate: Generate, template: Path) -> None:
    project = generate(OLDER["with transactions"])
    edit(project)
    update(project, template)
    before = git(project, "rev-parse", "HEAD")
    models = project / "app" / "models.py"
    models.write_text(models.read_text().replace("utc_now", "now"))
    commit_all(project, "Rename")

    conflicts = update(project, template, "tasks=yes", once=False)

    assert conflicts == set()
    assert (project / "app" / "tasks.py").exists()
    assert git(project, "rev-list", "--count", f"{before.strip()}..HEAD", "--no-merges").strip() == "2"


def test_a_project_that_cruft_has_made_follows_by_cruft(tmp_path: Path) -> None:
    clone = tmp_path / "template"
    run("git", "clone", "--quiet", ROOT, clone, cwd=tmp_path)
    cruft = (PYTHON.with_name("uv"), "tool", "run", "--quiet", "cruft>=2.16")
    older = OLDER["with transactions"]
    run(*cruft, "create", "--no-input", "--output-dir", tmp_path, "--checkout", older, clone, cwd=tmp_path)
    project = start_git(tmp_path / "my-flask-app")
    edit(project)

    run(*cruft, "update", "--skip-apply-ask", cwd=project)
    commit_all(project, "Take over the template")

    assert not list(project.rglob("*.rej"))
    assert_sound(project)
