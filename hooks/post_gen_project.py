"""Remove what was not asked for, and say what to do next."""

from pathlib import Path
from shlex import quote

NOT_ASKED_FOR: list[str] = [
    # {% if cookiecutter.api %}
    "app/users.py",
    "tests/test_users.py",
    # {% else %}
    "app/api/__init__.py",
    "app/api/docs.py",
    "app/api/fields.py",
    "app/api/problems.py",
    "app/api/resource.py",
    "app/api/users.py",
    "tests/api/__init__.py",
    "tests/api/test_docs.py",
    "tests/api/test_fields.py",
    "tests/api/test_resource.py",
    "tests/api/test_users.py",
    "app/static/docs.js",
    "app/templates/docs.html",
    # {% endif %}
    # {% if not cookiecutter.tasks %}
    "app/tasks.py",
    "tests/test_tasks.py",
    # {% endif %}
    # {% if cookiecutter.license == "none" %}
    "LICENSE",
    # {% endif %}
    # {% if not cookiecutter.docker %}
    "Dockerfile",
    ".dockerignore",
    "compose.yaml",
    # {% endif %}
    # {% if cookiecutter.ci != "github" %}
    ".github/workflows/ci.yml",
    # {% endif %}
    # {% if cookiecutter.ci != "gitlab" %}
    ".gitlab-ci.yml",
    # {% endif %}
]

for name in NOT_ASKED_FOR:
    path = Path(name)
    path.unlink()
    # In a project that is there, other files of the folder are its own.
    for folder in list(path.parents)[:-1]:
        if not any(folder.iterdir()):
            folder.rmdir()

# Cookiecutter ignores an answer to a question that does not exist: what was understood is said.
ANSWERS = """\
database {{ cookiecutter.database }}, API {{ "yes" if cookiecutter.api else "no" }}, \
tasks {{ "yes" if cookiecutter.tasks else "no" }}, Docker {{ "yes" if cookiecutter.docker else "no" }}, \
CI {{ cookiecutter.ci }}, license {{ cookiecutter.license }}"""

print(f"""
The project is ready: {ANSWERS}. Next:

    cd {quote(str(Path.cwd()))}
    make setup      # a virtual environment, .env with a secret, the database
    make run        # http://127.0.0.1:5000
    make test
""")
