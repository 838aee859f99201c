"""Tests of the answers that are refused, and of the lines that say so."""

import signal
import subprocess
import tomllib
from functools import cache
from importlib.metadata import distributions
from pathlib import Path

import pytest

from tests.commands import PYTHON, environment, run
from tests.conftest import RAW, Bake

pytestmark = pytest.mark.daily

REFUSED = {
    "an empty name": ("project_name=", "project_name ''"),
    "a name of spaces": ("project_name=   ", "project_name '   '"),
    "a double quote": ('project_name=The "App"', "project_name 'The \"App\"'"),
    "three double quotes": ('description=a """ b', 'description \'a """ b\''),
    "a backslash": ("author=back\\slash", "author 'back\\\\slash'"),
    "a line break": ("project_name=two\nlines", "project_name 'two\\nlines'"),
    "a carriage return": ("description=two\rlines", "description 'two\\nlines'"),
    "a line separator": ("author=two\u2028lines", "author 'two\\u2028lines'"),
    "an escape character": ("project_name=a\x1b[31mb", "project_name 'a\\x1b[31mb'"),
    "an empty description": ("description=", "description ''"),
    "a slug with a space": ("project_slug=my app", "project_slug 'my app'"),
    "a slug that begins with a hyphen": ("project_slug=-app", "project_slug '-app'"),
    "a slug that ends with a dot": ("project_slug=app.", "project_slug 'app.'"),
    "a slug with an accent": ("project_slug=café", "project_slug 'café'"),
    "a slug with an emoji": ("project_slug=🚀", "project_slug '🚀'"),
    "a slug with a folder": ("project_slug=a/b", "project_slug 'a/b'"),
    "a slug with folders elsewhere": ("project_slug=../elsewhere/b", "project_slug '../elsewhere/b'"),
    "a slug with quotes": ("project_slug=a'b", 'project_slug "a\'b"'),
    "a slug of 200 characters": (f"project_slug={'a' * 200}", "has 200 characters"),
    "a name of 200 characters": (f"project_name={'a' * 200}", "has 200 characters"),
    "a dependency": ("project_slug=flask", "project_slug 'flask'"),
    "a dependency in other letters": ("project_slug=SQLAlchemy", "project_slug 'SQLAlchemy'"),
    "a dependency with another separator": ("project_name=Python Dotenv", "project_slug 'python-dotenv'"),
    "a dependency of a dependency": ("project_name=Click", "project_slug 'click'"),
    "braces, when they are rendered": ("project_slug={{ 'fla' + 'sk' }}", "project_slug 'flask'"),
}


@pytest.mark.parametrize(("answer", "message"), REFUSED.values(), ids=REFUSED)
def test_an_answer_is_refused_in_one_line_and_leaves_nothing(
    template: Path, tmp_path: Path, answer: str, message: str
) -> None:
    output = tmp_path / "here" / "out"
    output.mkdir(parents=True)

    done = run(
        PYTHON, "-m", "cookiecutter", "--no-input", "--output-dir", output, template, answer, cwd=tmp_path, ok=False
    )

    first = done.stderr.splitlines()[0]
    assert message in first
    assert ": " in first.removeprefix(message)
    assert [path.name for path in tmp_path.iterdir()] == ["here"]
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["out"]
    assert list(output.iterdir()) == []


def test_a_refusal_leaves_a_project_that_is_there_alone(template: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("mine")

    run(
        PYTHON,
        "-m",
        "cookiecutter",
        "--no-input",
        "-f",
        template,
        "project_slug=shop",
        "author=",
        cwd=tmp_path,
        ok=False,
    )

    assert (tmp_path / "shop" / "mine.txt").read_text() == "mine"


def generate(template: Path, folder: Path, *arguments: str | Path, ok: bool, **variables: str) -> str:
    """Run cookiecutter in a folder, with the given arguments; return what it printed, errors last."""
    command = (PYTHON, "-m", "cookiecutter", "--no-input", template, *arguments)
    done = run(*command, cwd=folder, ok=ok, variables=variables)
    return done.stdout + done.stderr


@pytest.mark.parametrize("answer", ["database=oracle", "license=GPL", "ci=jenkins", "api=perhaps", "docker=please"])
def test_an_answer_that_is_no_choice_is_named_and_nothing_is_written(
    template: Path, tmp_path: Path, answer: str
) -> None:
    said = generate(template, tmp_path, answer, ok=False)

    assert answer.partition("=")[2] in said.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_the_last_lines_show_that_a_misspelt_question_was_ignored(template: Path, tmp_path: Path) -> None:
    said = generate(template, tmp_path, "databse=mysql", "tasks=yes", "license=MIT", ok=True)

    assert "is ready: database sqlite, API yes, tasks yes, Docker no, CI none, license MIT. Next:" in said


def test_a_folder_that_exists_is_left_alone(template: Path, tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "mine.txt").write_text("mine")

    said = generate(template, tmp_path, "project_slug=shop", ok=False)

    assert "directory already exists" in said
    assert [path.name for path in (tmp_path / "shop").iterdir()] == ["mine.txt"]


def test_a_place_that_cannot_be_written_to_is_named(template: Path, tmp_path: Path) -> None:
    said = generate(template, tmp_path, "--output-dir", "/proc/here", ok=False)

    assert "/proc/here" in said.splitlines()[-1]


def test_without_git_a_clone_or_a_folder_can_be_used(template: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "home").mkdir()

    said = generate(template, tmp_path, ok=True, PATH=str(tmp_path / "bin"))
    refused = generate(
        Path("gh:OWNER/cookiecutter-flask-sqlalchemy"),
        tmp_path,
        ok=False,
        PATH=str(tmp_path / "bin"),
        HOME=str(tmp_path / "home"),
    )

    assert "is ready" in said
    assert "'git' is not installed" in refused.splitlines()[-1]


def test_an_interrupted_question_writes_nothing(template: Path, tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [str(PYTHON), "-m", "cookiecutter", str(template)]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment(),
        stdin=pipe,
        stdout=pipe,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"Shop\n")
        process.stdin.flush()
        asked = b""
        while b"in paths" not in asked:  # the second question
            asked += process.stdout.read1()  # type: ignore[attr-defined] # it is buffered
        process.send_signal(signal.SIGINT)

    assert process.returncode == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("answer", ["2048", "Straße", "李明", "It's", "R&D", "{x}", "a" * 100, "🚀"])
def test_a_fine_name_is_accepted(bake: Bake, answer: str) -> None:
    project = bake(project_name=answer)

    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == project.name
    assert answer in (project / "README.md").read_text()


def test_an_old_cookiecutter_is_refused(template: Path, tmp_path: Path) -> None:
    old = PYTHON.with_name("uv"), "tool", "run", "--quiet", "cookiecutter==2.6.0"

    done = run(*old, "--no-input", "--output-dir", tmp_path, template, cwd=tmp_path, ok=False)

    assert done.stderr.splitlines()[0].startswith("cookiecutter 2.6.0 is too old: this template needs 2.7 or later")
    assert list(tmp_path.iterdir()) == []


def test_no_package_that_a_project_installs_can_be_its_name(template: Path) -> None:
    hook = (template / "hooks" / "pre_gen_project.py").read_text()
    refused = {line.strip(' ",') for line in hook.partition("DEPENDENCIES = {")[2].partition("}")[0].splitlines()}
    with_all_answers = tomllib.loads((template / RAW / "pyproject.toml").read_text())
    named = [with_all_answers["project"]["dependencies"], with_all_answers["build-system"]["requires"]]
    named += with_all_answers["dependency-groups"].values()

    required = {normal(requirement) for requirements in named for requirement in requirements} | {
        "redis",
        "psycopg-binary",
    }
    while more := {name for package in required for name in requirements_of_all().get(package, ())} - required:
        required |= more

    assert required <= refused


@cache
def requirements_of_all() -> dict[str, set[str]]:
    """Return what each installed package needs, extras and other systems left out."""
    return {
        normal(distribution.name): {
            normal(line.split(";")[0])
            for line in distribution.requires or ()
            if "extra ==" not in line and "python_version" not in line
        }
        for distribution in distributions()
    }


def normal(requirement: str) -> str:
    """Return the normalized name in a requirement."""
    name = requirement.strip()
    for end in " <>=!~[(":
        name = name.partition(end)[0]
    return name.lower().replace("_", "-").replace(".", "-")


def test_the_environment_of_the_tests_does_not_reach_a_project() -> None:
    assert "PYTHONDONTWRITEBYTECODE" not in environment()
