"""Every set of answers that can be given, and the files that each makes."""

import json
from itertools import combinations, product

from tests.conftest import ROOT

Answers = dict[str, str]


def choices() -> dict[str, list[str]]:
    """Return the questions that are answered by a choice, and their answers."""
    questions = json.loads((ROOT / "cookiecutter.json").read_text())
    asked = {name: default for name, default in questions.items() if not name.startswith("_")}
    return {
        name: default if isinstance(default, list) else ["no", "yes"]
        for name, default in asked.items()
        if isinstance(default, list | bool)
    }


def pairs(answers: Answers) -> set[tuple[tuple[str, str], ...]]:
    """Return each two of the answers."""
    return set(combinations(answers.items(), 2))


def pairwise(sets: list[Answers]) -> list[Answers]:
    """Return few of the sets: each two answers that stand in one of all stand in one of these."""
    missing = set().union(*map(pairs, sets))
    chosen = []
    while missing:
        chosen.append(max(sets, key=lambda answers: len(pairs(answers) & missing)))
        missing -= pairs(chosen[-1])
    return chosen


def named(answers: Answers) -> str:
    """Return the name of a set of answers, as a test shows it."""
    return "-".join(f"{name}={answer}" for name, answer in answers.items())


CHOICES = choices()
ALL: list[Answers] = [dict(zip(CHOICES, answers, strict=True)) for answers in product(*CHOICES.values())]
PAIRWISE = pairwise(ALL)

FILES = {
    ".cookiecutter.yml",
    ".env.example",
    ".gitignore",
    "Makefile",
    "README.md",
    "app/__init__.py",
    "app/blocks.py",
    "app/bodies.py",
    "app/callbacks.py",
    "app/columns.py",
    "app/commits.py",
    "app/config.py",
    "app/conflicts.py",
    "app/contexts.py",
    "app/database_errors.py",
    "app/db.py",
    "app/decisions.py",
    "app/doctor.py",
    "app/drivers.py",
    "app/engines.py",
    "app/errors.py",
    "app/headers.py",
    "app/health.py",
    "app/logs.py",
    "app/models.py",
    "app/pages.py",
    "app/savepoints.py",
    "app/scopes.py",
    "app/seed.py",
    "app/static/style.css",
    "app/streams.py",
    "app/templates/error.html",
    "app/templates/index.html",
    "app/transactions.py",
    "app/turns.py",
    "app/uncommitted.py",
    "app/urls.py",
    "constraints.txt",
    "gunicorn.conf.py",
    "migrations/autogenerate.py",
    "migrations/env.py",
    "migrations/script.py.mako",
    "migrations/versions/0001_create_users.py",
    "pyproject.toml",
    "tests/__init__.py",
    "tests/apps.py",
    "tests/conftest.py",
    "tests/database.py",
    "tests/factories.py",
    "tests/mysql.py",
    "tests/postgresql.py",
    "tests/problems.py",
    "tests/queries.py",
    "tests/servers.py",
    "tests/test_apps.py",
    "tests/test_blocks.py",
    "tests/test_bodies.py",
    "tests/test_callbacks.py",
    "tests/test_columns.py",
    "tests/test_config.py",
    "tests/test_conflicts.py",
    "tests/test_contexts.py",
    "tests/test_database.py",
    "tests/test_database_errors.py",
    "tests/test_db.py",
    "tests/test_doctor.py",
    "tests/test_errors.py",
    "tests/test_fixtures.py",
    "tests/test_headers.py",
    "tests/test_health.py",
    "tests/test_logs.py",
    "tests/test_migrations.py",
    "tests/test_models.py",
    "tests/test_pages.py",
    "tests/test_queries.py",
    "tests/test_savepoints.py",
    "tests/test_seed.py",
    "tests/test_streams.py",
    "tests/test_transactions.py",
    "tests/test_turns.py",
    "tests/test_uncommitted.py",
    "tests/test_urls.py",
    "tests/things.py",
}

OPTIONAL: dict[tuple[str, str], set[str]] = {
    ("license", "MIT"): {"LICENSE"},
    ("license", "BSD-3-Clause"): {"LICENSE"},
    ("license", "Apache-2.0"): {"LICENSE"},
    ("api", "yes"): {
        "app/api/__init__.py",
        "app/api/docs.py",
        "app/api/fields.py",
        "app/api/problems.py",
        "app/api/resource.py",
        "app/api/users.py",
        "app/static/docs.js",
        "app/templates/docs.html",
        "tests/api/__init__.py",
        "tests/api/test_docs.py",
        "tests/api/test_fields.py",
        "tests/api/test_resource.py",
        "tests/api/test_users.py",
    },
    ("api", "no"): {"app/users.py", "tests/test_users.py"},
    ("tasks", "yes"): {"app/tasks.py", "tests/test_tasks.py"},
    ("docker", "yes"): {".dockerignore", "Dockerfile", "compose.yaml"},
    ("ci", "github"): {".github/workflows/ci.yml"},
    ("ci", "gitlab"): {".gitlab-ci.yml"},
}
"""The files that an answer adds."""


def expected_files(answers: Answers) -> set[str]:
    """Return the files of a project."""
    return FILES.union(*(OPTIONAL.get(answer, set()) for answer in answers.items()))
