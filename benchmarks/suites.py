"""What a test costs: suites of the generated app beside the usual shape, by the number of tables.

    python benchmarks/suites.py [--url sqlite:// postgresql+psycopg://…/some_test] [--tables 10 50 200] [--plot FILE]

Each test inserts a row, commits and requests a page. The usual shape is Flask-SQLAlchemy with `create_all` and `drop_all` in a
fixture, on SQLite in memory or on the same server; it has a fiftieth of the tests, each of which makes all tables. The generated
app restores what Alembic has built; its first test of each table costs more, as libraries and servers get to know the table.
The suites of all sizes take turns: machines are noisy. What is printed is the milliseconds of a test, and the seconds from
the start of Python to the first test.
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
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from sqlalchemy import create_engine, make_url

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


def run(folder: Path, url: str) -> dict[str, float]:
    """Run a suite; return the seconds until its first test began, and the milliseconds that a test took."""
    (folder / "timer.py").write_text(TIMER)
    settings = {**os.environ, "TIMES": str(folder / "times.json"), "PYTHONPATH": str(folder)}
    settings["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # those of the template's own tests
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    settings["TEST_DATABASE_URL"] = settings["USUAL_URL"] = url
    command = [sys.executable, "-m", "pytest", "-q", "-p", "timer", "tests/test_rows.py"]
    settings["STARTED"] = str(time.time())
    done = subprocess.run(command, cwd=folder, env=settings, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    times: dict[str, float] = json.loads((folder / "times.json").read_text())
    return times


@contextmanager
def databases(url: str, sizes: list[int]) -> Iterator[dict[tuple[str, int], str]]:
    """Return the URL for each suite: on a server, each of the generated app has a database of its own; drop them afterwards."""
    if url == "sqlite://":
        yield {(name, tables): url for name in SUITES for tables in sizes}
        return
    named = make_url(url)
    home = "postgres" if named.get_backend_name() == "postgresql" else "information_schema"
    server = create_engine(named.set(database=home), isolation_level="AUTOCOMMIT")
    usual = f"{named.database}_usual"
    own = {tables: f"{named.database}_{tables}" for tables in sizes}  # the kit makes its own, named after them
    used = {(name, tables): usual if name == "usual shape" else own[tables] for name in SUITES for tables in sizes}
    made = [usual, *(f"{name}_main{end}" for name in own.values() for end in ("", "_kit"))]

    def drop() -> None:
        for name in made:
            connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {name}")

    with server.connect() as connection:
        drop()
        connection.exec_driver_sql(f"CREATE DATABASE {usual}")
        try:
            yield {
                suite: named.set(database=name).render_as_string(hide_password=False) for suite, name in used.items()
            }
        finally:
            drop()
    server.dispose()


SUITES = {"usual shape": usual_suite, "generated app": generated_suite}


def measure(url: str, sizes: list[int], tests: int, rounds: int) -> dict[str, dict[int, dict[str, float]]]:
    """Return the medians of the suites on a database, by name and number of tables."""
    found: dict[str, dict[int, dict[str, float]]] = {name: {} for name in SUITES}
    with tempfile.TemporaryDirectory() as scratch, databases(url, sizes) as urls:
        taken: dict[tuple[str, int], list[dict[str, float]]] = {suite: [] for suite in urls}
        for number in range(rounds + 1):
            print(f"{name_of(url)}: " + (f"round {number} of {rounds}" if number else "first runs"), file=sys.stderr)
            for (name, tables), own_url in urls.items():
                folder = Path(scratch) / name.replace(" ", "-") / str(tables)
                if number == 0:
                    SUITES[name](folder, tables, tests if name == "generated app" else max(tests // 50, 10))
                times = run(folder, own_url)
                if number > 0:  # the first compiles, and builds what is kept
                    taken[name, tables].append(times)
        for (name, tables), rows in taken.items():
            found[name][tables] = {what: statistics.median(row[what] for row in rows) for what in ("test", "start")}
    return found


def show(url: str, found: dict[str, dict[int, dict[str, float]]]) -> None:
    """Print a table."""
    sizes = list(found["usual shape"])
    print(f"\n{name_of(url)}: milliseconds for a test (seconds to the first one)\n")
    print(f"{'tables':16}" + "".join(f"{tables:>20}" for tables in sizes))
    for name, by_tables in found.items():
        cells = [f"{by_tables[tables]['test']:.1f} ({by_tables[tables]['start']:.2f} s)" for tables in sizes]
        print(f"{name:16}" + "".join(f"{cell:>20}" for cell in cells))


def name_of(url: str) -> str:
    """Return what a database is called."""
    return {"sqlite": "SQLite", "postgresql": "PostgreSQL", "mariadb": "MariaDB", "mysql": "MySQL"}[
        make_url(url).get_backend_name()
    ]


def plot(found: dict[str, dict[str, dict[int, dict[str, float]]]], path: Path) -> None:
    """Draw the milliseconds of a test over the number of tables."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for number, (url, suites) in enumerate(found.items()):
        for name, style in (("usual shape", "--"), ("generated app", "-")):
            sizes = list(suites[name])
            label = f"{name_of(url)}, {name}"
            axes.plot(
                sizes,
                [suites[name][size]["test"] for size in sizes],
                style,
                color=f"C{number}",
                marker="o",
                label=label,
            )
    axes.set(xlabel="tables", ylabel="milliseconds for a test", xscale="log", yscale="log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", nargs="+", default=["sqlite://"], help="what TEST_DATABASE_URL may be")
    parser.add_argument("--tables", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--tests", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plot", type=Path, help="an SVG file; needs matplotlib")
    options = parser.parse_args()
    if options.plot and find_spec("matplotlib") is None:
        parser.error("--plot needs matplotlib: python -m pip install --group plot")
    found = {}
    for url in options.url:
        found[url] = measure(url, options.tables, options.tests, options.rounds)
        show(url, found[url])
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
