"""Refuse answers that cannot work, with one line that says which, and leave nothing on disk."""

import json
import re
import sys
import unicodedata
from importlib.metadata import version
from pathlib import Path

# JSON in a raw string: no answer can end it, because JSON never writes three quotes in a row.
ANSWERS = json.loads(r"""{{ cookiecutter | jsonify }}""")

# What the app and its tools install. A project of the same name would depend on itself.
DEPENDENCIES = {
    "alembic",
    "amqp",
    "annotated-types",
    "ast-serialize",
    "async-timeout",
    "billiard",
    "blinker",
    "boolean-py",
    "cachecontrol",
    "celery",
    "celery-types",
    "certifi",
    "charset-normalizer",
    "click",
    "click-didyoumean",
    "click-plugins",
    "click-repl",
    "colorama",
    "cyclonedx-python-lib",
    "defusedxml",
    "exceptiongroup",
    "execnet",
    "filelock",
    "flask",
    "flask-openapi3",
    "flask-openapi3-swagger",
    "flit-core",
    "gunicorn",
    "idna",
    "iniconfig",
    "itsdangerous",
    "jinja2",
    "kombu",
    "librt",
    "license-expression",
    "mako",
    "markdown-it-py",
    "markupsafe",
    "mdurl",
    "msgpack",
    "mypy",
    "mypy-extensions",
    "packageurl-python",
    "packaging",
    "pathspec",
    "pip",
    "pip-api",
    "pip-audit",
    "pip-requirements-parser",
    "platformdirs",
    "pluggy",
    "prompt-toolkit",
    "psycopg",
    "psycopg-binary",
    "py-serializable",
    "pydantic",
    "pydantic-core",
    "pygments",
    "pymysql",
    "pyparsing",
    "pytest",
    "pytest-randomly",
    "pytest-xdist",
    "python-dateutil",
    "python-dotenv",
    "redis",
    "requests",
    "rich",
    "ruff",
    "setuptools",
    "six",
    "sortedcontainers",
    "sqlalchemy",
    "tomli",
    "tomli-w",
    "typing-extensions",
    "typing-inspection",
    "tzdata",
    "tzlocal",
    "urllib3",
    "vine",
    "wcwidth",
    "werkzeug",
}


def main() -> None:
    """Check cookiecutter, then each answer."""
    found = tuple(int(part) for part in re.findall(r"\d+", version("cookiecutter"))[:2])
    if found < (2, 7):
        refuse(f"cookiecutter {version('cookiecutter')} is too old: this template needs 2.7 or later.")
    for name in ("project_name", "description", "author"):
        check_text(name, ANSWERS[name])
    check_slug(ANSWERS["project_slug"])


def check_text(name: str, answer: str) -> None:
    """Refuse a text that would break a string in Python, TOML or YAML."""
    if not answer.strip():
        refuse(f"{name} {answer!r} is empty: write at least one letter.")
    if '"' in answer or "\\" in answer:
        refuse(f"{name} {answer!r} has a double quote or a backslash: leave it out, or write an apostrophe.")
    if any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in answer):
        refuse(f"{name} {answer!r} has a line break or another control character: write it in one line of text.")


def check_slug(answer: str) -> None:
    """Refuse a slug that is no folder or no project name (the packaging specification, *Names and normalization*)."""
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", answer, re.ASCII):
        refuse(
            f"project_slug {answer!r} is no valid project name:"
            " use letters, digits, and between them hyphens, dots or underscores."
        )
    if len(answer) > 100:
        refuse(f"project_slug {answer!r} has {len(answer)} characters: use at most 100.")
    if re.sub(r"[-_.]+", "-", answer).lower() in DEPENDENCIES:
        refuse(f"project_slug {answer!r} is the name of a package that the app installs: choose another.")


def refuse(message: str) -> None:
    """Say why and stop; cookiecutter then removes the folder that it has made."""
    remove_folders_between()
    sys.exit(message)


def remove_folders_between() -> None:
    """Remove the empty folders that a slug such as `a/b` has made, which cookiecutter would leave."""
    folder = Path.cwd()
    output = Path(ANSWERS["_output_dir"])
    between = [parent for parent in folder.parents if not output.is_relative_to(parent)]
    if between and not any(folder.iterdir()):
        folder.rmdir()
        for parent in between:
            if any(parent.iterdir()):
                break
            parent.rmdir()


main()
