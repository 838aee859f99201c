"""What a test costs: suites of the generated app beside the usual shape, by the number of tables.

    python benchmarks/suites.py [--url postgresql+psycopg://…] [--tables 10 50 200] [--tests 200] [--plot FILE]

Each test inserts a row, commits and requests a page. The usual shape is Flask-SQLAlchemy with `create_all` and `drop_all` in a
fixture, on SQLite in memory or on the same server; the generated app restores what Alembic has built. The suites take
turns. What is printed is the milliseconds of a test, and the seconds from the start of Python to the first test.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
RAW = ROOT / "{{cookiecutter.project_slug}}"

TIMER = '''"""Write down when Python started, when the first test began and when the last one ended."""

import json
import os
import time

times = []


def pytest_runtest_logstart():
    times.append(time.time())


def pytest_runtest_logfinish():
    times.append(time.time())


def pytest_sessionfinish():
    with open(os.environ["TIMES"], "w") as file:
        json.dump({"start": times[0] - float(os.environ["STARTED"]), "test": (times[-1] - times[0]) * 2000 / len(times)}, file)
'''

MODEL = '''

class Table{number}(Base):
    """One of many."""

    __tablename__ = "table{number}"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100), unique=True)
    size: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)
'''

OF_GENERATED_APP = '''"""Tests that write one row each."""

import pytest
from app import models


@pytest.mark.parametrize("number", range({tests}))
def test_a_row(number, client, session):
    getattr(models, f"Table{{number % {tables}}}")(name=f"row {{number}}").save()

    assert client.get("/").status_code == 200
'''

OF_USUAL_SHAPE = '''"""Tests that write one row each."""

import os
from datetime import datetime

import pytest
from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Model(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Model)
Base, utc_now = db.Model, datetime.now
{models}

@pytest.fixture
def app():
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["USUAL_URL"]
    db.init_app(app)
    app.add_url_rule("/", view_func=lambda: "")
    with app.app_context():
        db.create_all()
        yield app
        db.session.remove()
        db.drop_all()


@pytest.mark.parametrize("number", range({tests}))
def test_a_row(number, app):
    db.session.add(globals()[f"Table{{number % {tables}}}"](name=f"row {{number}}"))
    db.session.commit()

    assert app.test_client().get("/").status_code == 200
'''


def generated_suite(folder: Path, tables: int, tests: int) -> None:
    """Write an application with many tables, its migrations and its suite."""
    shutil.copytree(RAW, folder)
    with (folder / "app" / "models.py").open("a") as models:
        models.writelines(MODEL.format(number=number) for number in range(tables))
    scratch = {**os.environ, "DATABASE_URL": f"sqlite:///{folder}/scratch.sqlite3"}
    for command in (("upgrade", "head"), ("revision", "--autogenerate", "-m", "many tables")):
        subprocess.run(
            [sys.executable, "-m", "alembic", *command], cwd=folder, env=scratch, check=True, capture_output=True
        )
    (folder / "tests" / "test_rows.py").write_text(OF_GENERATED_APP.format(tables=tables, tests=tests))


def usual_suite(folder: Path, tables: int, tests: int) -> None:
    """Write the same in the usual shape."""
    (folder / "tests").mkdir(parents=True)
    models = "".join(MODEL.format(number=number) for number in range(tables))
    (folder / "tests" / "test_rows.py").write_text(OF_USUAL_SHAPE.format(tables=tables, tests=tests, models=models))


def run(folder: Path, url: str | None) -> dict[str, float]:
    """Run a suite; return the seconds until its first test began, and the milliseconds that a test took."""
    (folder / "timer.py").write_text(TIMER)
    settings = {**os.environ, "TIMES": str(folder / "times.json"), "PYTHONPATH": str(folder)}
    settings["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of the template's own tests
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    settings["USUAL_URL"] = url or "sqlite://"
    if url:
        settings["TEST_DATABASE_URL"] = url
    command = [sys.executable, "-m", "pytest", "-q", "-p", "timer", "tests/test_rows.py"]
    settings["STARTED"] = str(time.time())
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    times: dict[str, float] = json.loads((folder / "times.json").read_text())
    return times


SUITES = {"usual shape": usual_suite, "generated app": generated_suite}


def measure(url: str | None, sizes: list[int], tests: int, rounds: int) -> dict[str, dict[int, dict[str, float]]]:
    """Return the medians of all suites, by name and number of tables."""
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in SUITES}
    with tempfile.TemporaryDirectory() as scratch:
        for tables in sizes:
            folders = {name: Path(scratch) / name.replace(" ", "-") / str(tables) for name in SUITES}
            for name, write in SUITES.items():
                write(folders[name], tables, tests)
                run(folders[name], url)  # compiles, and builds what is kept between runs
            taken = {name: [] for name in SUITES}  # type: dict[str, list[dict[str, float]]]
            for _ in range(rounds):
                for name, folder in folders.items():
                    taken[name].append(run(folder, url))
            for name, times in taken.items():
                found[name][tables] = {
                    what: statistics.median(time[what] for time in times) for what in ("test", "start")
                }
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="a database of a server, instead of SQLite: one that does not exist, or is empty")
    parser.add_argument("--tables", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--tests", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.url, options.tables, options.tests, options.rounds)
    print(f"milliseconds for a test (seconds to the first test), {(options.url or 'sqlite').partition(':')[0]}\n")
    print(f"{'tables':16}" + "".join(f"{tables:>18}" for tables in options.tables))
    for name, by_tables in found.items():
        cells = [
            f"{by_tables[tables]['test']:.1f} ms ({by_tables[tables]['start']:.2f} s)" for tables in options.tables
        ]
        print(f"{name:16}" + "".join(f"{cell:>18}" for cell in cells))


if __name__ == "__main__":
    main()
