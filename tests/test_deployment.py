"""Tests of the files that other machines read: linted by the tools of their kind, and their commands run here."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from pathspec import GitIgnoreSpec
from sqlalchemy import make_url

from tests.commands import PYTHON, environment, run
from tests.conftest import Bake
from tests.matrix import ALL, Answers, named
from tests.servers import ADMINISTRATORS, SERVERS, database_on, drop_databases, require
from tests.serving import get, serving
from tests.test_readme import install

WORKFLOW = ".github/workflows/ci.yml"
IMAGES = {"postgresql": "postgres:17", "mysql": "mariadb:11.8"}


def with_answers(**wanted: str) -> list[Answers]:
    """Return the sets of answers with these among them; without a license, and with the API, if they do not say."""
    wanted = {"license": "none", "api": "yes"} | wanted
    return [answers for answers in ALL if wanted.items() <= answers.items()]


def lint(tool: str, *arguments: str | Path, cwd: Path, ok: bool = True) -> str:
    """Run a linter of this environment, and return what it says."""
    done = run(PYTHON.with_name(tool), *arguments, cwd=cwd, ok=ok)
    return done.stdout + done.stderr


def check_schema(kind: str, path: str, project: Path, *, ok: bool = True) -> str:
    """Check a file against the published schema of its kind."""
    return lint("check-jsonschema", "--builtin-schema", f"vendor.{kind}", path, cwd=project, ok=ok)


def replace(path: Path, old: str, new: str) -> None:
    """Write a fault into a file."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# The tools


@pytest.mark.parametrize("answers", with_answers(docker="yes", ci="none"), ids=named)
def test_the_image_and_its_services_are_linted(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)

    assert lint("hadolint", "Dockerfile", cwd=project) == ""
    check_schema("compose-spec", "compose.yaml", project)


@pytest.mark.parametrize("answers", with_answers(ci="github") + with_answers(ci="gitlab"), ids=named)
def test_the_workflow_is_linted(bake: Bake, answers: Answers) -> None:
    project = bake(**answers)

    if answers["ci"] == "gitlab":
        check_schema("gitlab-ci", ".gitlab-ci.yml", project)
    else:
        check_schema("github-workflows", WORKFLOW, project)
        assert "No findings" in lint("zizmor", "--offline", "--no-progress", ".", cwd=project)


def test_the_linters_see_a_fault(bake: Bake) -> None:
    project = bake(docker="yes", ci="github")
    replace(project / "Dockerfile", "WORKDIR /srv", "WORKDIR srv")
    replace(project / "compose.yaml", "depends_on:", "depend_on:")
    replace(project / WORKFLOW, "contents: read", "contents: write")
    gitlab = bake(ci="gitlab", project_slug="gitlab")
    replace(gitlab / ".gitlab-ci.yml", "script:", "scripts:")

    assert "DL3000" in lint("hadolint", "Dockerfile", cwd=project, ok=False)
    assert "depend_on" in check_schema("compose-spec", "compose.yaml", project, ok=False)
    assert "excessive-permissions" in lint("zizmor", "--offline", ".", cwd=project, ok=False)
    replace(project / WORKFLOW, "runs-on:", "run-on:")
    assert "run-on" in check_schema("github-workflows", WORKFLOW, project, ok=False)
    assert "scripts" in check_schema("gitlab-ci", ".gitlab-ci.yml", gitlab, ok=False)


# The commands of CI


def here(url: str) -> str:
    """Return the URL of a database with the server that the tests of the template have."""
    named = make_url(url)
    administrator = make_url(ADMINISTRATORS["mariadb" if named.get_backend_name() == "mysql" else "postgresql"])
    require(administrator.get_backend_name(), administrator.host, administrator.port)
    return administrator.set(database=named.database).render_as_string(hide_password=False)


def commands_of(project: Path, answers: Answers) -> list[str]:
    """Return the commands of the job with the tests; fail unless it has a database with the URL that they name."""
    if answers["ci"] == "gitlab":
        job = yaml.safe_load((project / ".gitlab-ci.yml").read_text())["test"]
        commands: list[str] = job["script"]
        services = {service["alias"]: service for service in job.get("services", ())}
        host, variables = "database", "variables"
    else:
        job = yaml.safe_load((project / WORKFLOW).read_text())["jobs"]["test"]
        steps = [step for step in job["steps"] if "run" in step]
        commands = [
            " ".join([*(f"{name}={value}" for name, value in step.get("env", {}).items()), step["run"]])
            for step in steps
        ]
        services = job.get("services", {})
        host, variables = "127.0.0.1", "env"
    assert [*commands[:3], commands[-1]] == ["make setup", "make lint", "make test", "make audit"]
    if answers["database"] == "sqlite":
        assert services == {}
        assert len(commands) == 4
        return commands
    url = make_url(commands[3].removeprefix("TEST_DATABASE_URL=").removesuffix(" make test"))
    server = services["database"]
    assert server.get("image", server.get("name")) == IMAGES[answers["database"]]
    assert url.host == host
    assert [url.password] == list(server[variables].values())
    assert url.username == {"postgresql": "postgres", "mysql": "root"}[answers["database"]]
    assert url.get_backend_name() == answers["database"]
    port = {"postgresql": 5432, "mysql": 3306}[answers["database"]]
    assert server.get("ports", [f"{port}:{port}"]) == [f"{port}:{port}"]
    assert len(commands) == 5
    commands[3] = commands[3].replace(str(url.render_as_string(hide_password=False)), here(str(url)))
    return commands


@pytest.mark.parametrize("answers", with_answers(ci="github") + with_answers(ci="gitlab"), ids=named)
def test_ci_has_the_database_that_its_tests_name(bake: Bake, answers: Answers) -> None:
    assert commands_of(bake(**answers), answers)


@pytest.mark.parametrize(
    "answers",
    with_answers(ci="github", docker="no", tasks="no", database="postgresql")
    + with_answers(ci="gitlab", docker="no", tasks="no", database="mysql"),
    ids=named,
)
def test_the_commands_of_ci_succeed(bake: Bake, answers: Answers) -> None:
    project = install(bake(**answers))

    try:
        for command in commands_of(project, answers):
            run("bash", "-c", command, cwd=project)
    finally:
        drop_databases(SERVERS[answers["database"]], "ci_test")


@pytest.mark.parametrize("ci", ["github", "gitlab"])
def test_an_image_is_built_if_there_is_one(bake: Bake, ci: str) -> None:
    for docker in ("no", "yes"):
        project = bake(ci=ci, docker=docker, project_slug=docker)
        text = (project / (WORKFLOW if ci == "github" else ".gitlab-ci.yml")).read_text()
        assert ("docker build ." in text) is (docker == "yes")


# The services


@pytest.mark.parametrize("answers", with_answers(docker="yes", ci="none"), ids=named)
def test_the_services_find_each_other(bake: Bake, answers: Answers) -> None:
    project = install(bake(**answers))
    run("make", "setup", cwd=project)
    secrets = dict(line.split("=", 1) for line in (project / ".env").read_text().splitlines() if "=" in line)
    text = re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: secrets[found[1]], (project / "compose.yaml").read_text())
    compose = yaml.safe_load(text)
    services: dict[str, Any] = compose["services"]

    expected = {"app", "migrate"} | ({"database"} if answers["database"] in IMAGES else set())
    assert services.keys() == expected | ({"worker", "queue"} if answers["tasks"] == "yes" else set())
    used = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert used == compose["volumes"].keys()
    for service in services.values():
        for name, needed in service.get("depends_on", {}).items():
            if needed["condition"] == "service_healthy":
                assert "healthcheck" in services[name]
            else:
                assert (name, needed["condition"]) == ("migrate", "service_completed_successfully")
    (start,) = re.findall(r"^# .*: (docker compose .*)$", text, re.MULTILINE)
    assert f"\n{start}\n" in (project / "README.md").read_text()
    assert secrets["SECRET_KEY"] == services["app"]["environment"]["SECRET_KEY"]
    check_addresses(services, answers)
    check_commands(services, project, answers)


def check_addresses(services: dict[str, Any], answers: Answers) -> None:
    """Fail unless the app knows where its database and its queue are, and their names and passwords."""
    variables = services["app"]["environment"]
    url = make_url(variables["DATABASE_URL"])
    if answers["database"] == "sqlite":
        assert services["app"]["volumes"] == [f"database:{Path(str(url.database)).parent}"]
    else:
        server = services["database"]
        kind = {"postgresql": "POSTGRES", "mysql": "MARIADB"}[answers["database"]]
        database = {"postgresql": "DB", "mysql": "DATABASE"}[answers["database"]]
        told = [server["environment"][f"{kind}_{name}"] for name in ("USER", "PASSWORD", database)]
        assert url.host == "database"
        assert [url.username, url.password, url.database] == told
        assert len(str(url.password)) == 64
        assert server["image"] == IMAGES[answers["database"]]
    if answers["tasks"] == "yes":
        assert make_url(variables["CELERY_BROKER_URL"]).host == "queue"


def check_commands(services: dict[str, Any], project: Path, answers: Answers) -> None:
    """Run the migration, and what tells whether the servers are up, with the servers of this machine."""
    if answers["database"] in SERVERS:
        with database_on(SERVERS[answers["database"]]) as url:
            migrate = project / ".venv" / "bin" / services["migrate"]["command"]
            run("bash", "-c", str(migrate), cwd=project, variables={"DATABASE_URL": url})
    for name, command in (("database", "pg_isready"), ("queue", "redis-cli")):
        test = services.get(name, {}).get("healthcheck", {}).get("test", "")
        if command in test and shutil.which(command):
            run("bash", "-c", test, cwd=project)
    if answers["tasks"] == "yes":
        told = run(
            "bash", "-c", f".venv/bin/{services['worker']['command']}", cwd=project, ok=False
        )  # there is no queue: it is understood, and refused
        assert "CELERY_BROKER_URL is not set" in told.stderr


# The image


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, and their arguments."""
    text = re.sub(r"^#.*\n", "", dockerfile.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    return [(line.split()[0], line.partition(" ")[2].strip()) for line in text.splitlines() if line.strip()]


@pytest.mark.parametrize(
    "answers",
    with_answers(docker="yes", ci="none", database="sqlite", tasks="no")
    + with_answers(docker="yes", ci="none", database="postgresql", tasks="yes", license="Apache-2.0"),
    ids=named,
)
def test_the_steps_of_the_image_make_an_app_that_is_healthy(bake: Bake, tmp_path: Path, answers: Answers) -> None:
    if os.getuid() != 0:
        pytest.skip("only root may add the user of the image")
    project = bake(**answers)
    run("git", "init", "--quiet", cwd=project)
    (project / ".env").write_text("SECRET_KEY=x\n")  # it must not reach the image
    root = tmp_path / "root"
    variables: dict[str, str] = {}
    folder, stage, user, command, health = root, 0, "", [], []
    for instruction, text in instructions(project / "Dockerfile"):
        inside = re.sub(r"(?<![\w.])/(srv|venv|data)\b", rf"{root}/\1", text)
        if instruction == "FROM":
            stage, folder = stage + 1, root
            if stage == 2:  # nothing of the first one is left but what is copied
                shutil.rmtree(root / "srv")
        elif instruction == "WORKDIR":
            folder = Path(inside)
            folder.mkdir(parents=True, exist_ok=True)
        elif instruction == "COPY":
            copy(inside, project, folder, root)
        elif instruction == "RUN":
            run_step(inside, folder, root, variables)
        elif instruction == "ENV":
            settings = dict(word.split("=", 1) for word in shlex.split(inside))
            variables |= {name: value.replace("$PATH", os.environ["PATH"]) for name, value in settings.items()}
        elif instruction == "USER":
            user = text
        elif instruction == "HEALTHCHECK":
            health = json.loads(inside.partition("CMD ")[2])
        elif instruction == "CMD":
            command = json.loads(inside)

    assert stage == 2
    kept = {"app", "migrations", "gunicorn.conf.py", "pyproject.toml", "constraints.txt", "README.md"}
    assert {path.name for path in folder.iterdir()} - {"LICENSE"} == kept
    assert not (root / "venv" / "bin" / "pytest").exists()
    assert f":{user}:" in (root / "etc" / "passwd").read_text().splitlines()[-1]
    assert int(user) > 0
    assert not (root / "data").exists() or (root / "data").stat().st_uid == int(user)
    database = root / "data" / "app.sqlite3" if answers["database"] == "sqlite" else tmp_path / "app.sqlite3"
    variables |= {"DATABASE_URL": f"sqlite:///{database}", "SECRET_KEY": "x" * 64}
    run("bash", "-c", "alembic upgrade head", cwd=folder, variables=variables)
    with serving("bash", "-c", f"PORT=$FLASK_RUN_PORT exec {command[0]}", cwd=folder, **variables) as port:
        assert get(port, "/healthz")[0] == 200
        assert get(port, "/users/1")[0] == 404
        variables["PORT"] = str(port)
        run(*health, cwd=folder, variables=variables)
    run(*health, cwd=folder, variables=variables, ok=False)  # it is gone


def copy(text: str, project: Path, folder: Path, root: Path) -> None:
    """Copy what `.dockerignore` does not keep out."""
    *sources, target = text.split()
    if sources[0].startswith("--from="):
        assert Path(sources[1]) == Path(target) == root / "venv"  # it is there already
        return
    # As git's, but each pattern begins at the root.
    lines = [line for line in (project / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    ignored = GitIgnoreSpec.from_lines(f"!/{line[1:]}" if line.startswith("!") else f"/{line}" for line in lines)
    for path in project.rglob("*"):
        name = path.relative_to(project)
        if path.is_file() and not ignored.match_file(name):
            for source in sources:
                if source == "." or name == Path(source):
                    wanted = folder / target / (name if source == "." else name.name)
                    wanted.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(path, wanted)


def run_step(text: str, folder: Path, root: Path, variables: dict[str, str]) -> None:
    """Run a step; users are added to the folder, and the Python of the image is that under this environment."""
    if not (root / "etc").exists():
        (root / "etc").mkdir(parents=True)
        for name in ("passwd", "group"):
            shutil.copy(f"/etc/{name}", root / "etc")
    python = Path(sys._base_executable)  # type: ignore[attr-defined] # it is there
    text = re.sub(r"^python\b", str(python), text)
    text = text.replace("useradd ", f"useradd --prefix {root} ")
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment(**variables), capture_output=True, text=True
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}{done.stderr}"
