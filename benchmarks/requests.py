"""What a request costs: the whole WSGI call of a generated app, beside its peers in the same run.

    python benchmarks/requests.py [--url postgresql://…] [--rounds 100] [--requests 100]

Each contender runs in a process of its own on a database of its own, with its stock settings, and answers the same
requests: one without database, one that reads a row, one that inserts a row. The rounds of the contenders take turns, so
that a busy machine is busy for all of them. What counts is the median of the rounds, and the median of what each round
cost more than the same round of plain SQLAlchemy; on a server the app is compared to that with its own engine settings.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flask import Flask

ROOT = Path(__file__).parent.parent
RAW = ROOT / "{{cookiecutter.project_slug}}"
KINDS = ("idle", "read", "write")


def new_app() -> Flask:
    """Return a Flask application that opens the session of the client, as every application does."""
    app = Flask(__name__)
    app.secret_key = "benchmark"
    return app


def bare() -> Callable[..., Any]:
    """Return Flask without a database."""
    app = new_app()
    app.add_url_rule("/idle", view_func=lambda: "ok")
    return app.wsgi_app


def hand_written(settings: str = "stock") -> Callable[..., Any]:
    """Return plain SQLAlchemy, with the code that everybody writes first."""
    from sqlalchemy import create_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, sessionmaker

    class Base(DeclarativeBase):
        """What SQLAlchemy asks for."""

    class Thing(Base):
        """A row."""

        __tablename__ = "bench_things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    options = {} if settings == "stock" else {"pool_pre_ping": True, "isolation_level": "REPEATABLE READ"}
    engine = create_engine(os.environ["BENCHMARK_URL"], **options)
    session_factory = sessionmaker(engine)
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    app = new_app()

    @app.get("/idle")
    def idle() -> str:
        return "ok"

    @app.get("/read")
    def read() -> str:
        with session_factory() as session:
            return session.get_one(Thing, 1).name

    @app.post("/write")
    def write() -> str:
        with session_factory() as session:
            thing = Thing(name="box")
            session.add(thing)
            session.commit()
            return ""

    return app.wsgi_app


def hand_written_alike() -> Callable[..., Any]:
    """Return plain SQLAlchemy with the engine settings of the generated app, on PostgreSQL."""
    return hand_written("alike")


def generated() -> Callable[..., Any]:
    """Return the generated app."""
    sys.dont_write_bytecode = True  # what lies in the template folder is baked into the next project
    sys.path.insert(0, str(RAW))
    os.environ["DATABASE_URL"] = os.environ["BENCHMARK_URL"]
    from app import create_app
    from app.db import engine, session
    from app.models import Base
    from sqlalchemy import MetaData
    from sqlalchemy.orm import Mapped, mapped_column

    class Thing(Base):  # type: ignore[misc] # the app is not a part of this project
        """A row."""

        __tablename__ = "bench_things"
        metadata = MetaData()
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    Thing.metadata.drop_all(engine)
    Thing.metadata.create_all(engine)
    app: Flask = create_app({"SECRET_KEY": "benchmark"})

    @app.get("/idle")
    def idle() -> str:
        return "ok"

    @app.get("/read")
    def read() -> str:
        return str(session.get_one(Thing, 1).name)

    @app.post("/write")
    def write() -> str:
        Thing(name="box").save()
        return ""

    return app.wsgi_app


def generated_normal() -> Callable[..., Any]:
    """Return the generated app with `SQLITE_SYNCHRONOUS=NORMAL`."""
    os.environ["SQLITE_SYNCHRONOUS"] = "NORMAL"
    return generated()


def flask_sqlalchemy() -> Callable[..., Any]:
    """Return an app on Flask-SQLAlchemy."""
    from flask_sqlalchemy import SQLAlchemy
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        """What SQLAlchemy asks for."""

    app = new_app()
    app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["BENCHMARK_URL"]
    db = SQLAlchemy(app, model_class=Base)

    class Thing(db.Model):  # type: ignore[name-defined, misc] # a class of its own making
        """A row."""

        __tablename__ = "bench_things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    with app.app_context():
        db.drop_all()
        db.create_all()

    @app.get("/idle")
    def idle() -> str:
        return "ok"

    @app.get("/read")
    def read() -> str:
        return str(db.session.get_one(Thing, 1).name)

    @app.post("/write")
    def write() -> str:
        db.session.add(Thing(name="box"))
        db.session.commit()
        return ""

    return app.wsgi_app


def advanced_alchemy() -> Callable[..., Any]:
    """Return an app on Advanced Alchemy, which commits by the response."""
    from advanced_alchemy.extensions.flask import AdvancedAlchemy, SQLAlchemySyncConfig
    from sqlalchemy import create_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

    class Base(DeclarativeBase):
        """What SQLAlchemy asks for."""

    class Thing(Base):
        """A row."""

        __tablename__ = "bench_things"
        id: Mapped[int] = mapped_column(primary_key=True)
        name: Mapped[str]

    engine = create_engine(os.environ["BENCHMARK_URL"])
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    engine.dispose()
    app = new_app()
    config = SQLAlchemySyncConfig(connection_string=os.environ["BENCHMARK_URL"], commit_mode="autocommit")
    alchemy = AdvancedAlchemy(config, app)

    @app.get("/idle")
    def idle() -> str:
        return "ok"

    @app.get("/read")
    def read() -> str:
        return str(alchemy.get_sync_session().get_one(Thing, 1).name)

    @app.post("/write")
    def write() -> str:
        alchemy.get_sync_session().add(Thing(name="box"))
        return ""

    return app.wsgi_app


CONTENDERS = {
    "bare Flask": bare,
    "hand-written": hand_written,
    "hand-written, settings alike": hand_written_alike,
    "Flask-SQLAlchemy": flask_sqlalchemy,
    "Advanced Alchemy": advanced_alchemy,
    "generated app": generated,
    "generated app, NORMAL": generated_normal,
}


def contend(name: str) -> None:
    """Answer rounds of requests: each line of the input names a kind and a number; print the seconds."""
    from werkzeug.test import EnvironBuilder

    wsgi_app = CONTENDERS[name]()
    environs = {
        kind: EnvironBuilder(f"/{kind}", method="POST" if kind == "write" else "GET").get_environ() for kind in KINDS
    }
    statuses: list[str] = []

    def start_response(status: str, _headers: object, _error: object = None) -> None:
        statuses.append(status)

    def request(kind: str) -> None:
        answer = wsgi_app(environs[kind].copy(), start_response)
        b"".join(answer)
        answer.close()

    print("ready", flush=True)
    for line in sys.stdin:
        kind, count = line.split()
        statuses.clear()
        began = time.perf_counter()
        for _ in range(int(count)):
            request(kind)
        print(time.perf_counter() - began, flush=True)
        assert set(statuses) == {"200 OK"}, set(statuses)


def measure(url: str, rounds: int, requests: int) -> dict[tuple[str, str], list[float]]:
    """Return the microseconds that a request takes in each round, by contender and kind."""
    names = list(CONTENDERS)
    names.remove("hand-written, settings alike" if url.startswith("sqlite") else "generated app, NORMAL")
    processes = {}
    for number, name in enumerate(names):
        # SQLite: a file for each. A server: one table, made anew by each, of which all are alike.
        settings = {**os.environ, "BENCHMARK_URL": url.format(number=number)}
        processes[name] = subprocess.Popen(
            [sys.executable, __file__, "--contend", name],
            env=settings,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert processes[name].stdout.readline() == "ready\n", name  # type: ignore[union-attr]

    def run(name: str, kind: str, count: int) -> float:
        process = processes[name]
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{kind} {count}\n")
        process.stdin.flush()
        return float(process.stdout.readline()) / count * 1e6

    found: dict[tuple[str, str], list[float]] = {}
    for kind in ("idle", "write", "read"):
        contenders = [name for name in names if kind == "idle" or name != "bare Flask"]
        for name in contenders:
            run(name, kind, requests)
        for _ in range(rounds):
            for name in contenders:
                found.setdefault((name, kind), []).append(run(name, kind, requests))
    for process in processes.values():
        process.communicate()
    return found


def report(title: str, found: dict[tuple[str, str], list[float]]) -> None:
    """Print a table."""
    print(f"\n{title}\n\n{'':30}" + "".join(f"{kind:>18}" for kind in KINDS))
    for name in dict.fromkeys(name for name, _ in found):
        cells = []
        for kind in KINDS:
            times = found.get((name, kind))
            if times is None:
                cells.append("")
                continue
            alike = name == "generated app" and ("hand-written, settings alike", kind) in found
            base = "bare Flask" if kind == "idle" else "hand-written, settings alike" if alike else "hand-written"
            rounds = list(zip(times, found[base, kind], strict=True))
            more = statistics.median(time - other for time, other in rounds)
            ratio = statistics.median(time / other for time, other in rounds)
            taken = statistics.median(times)
            cells.append(f"{taken:.1f} us {more:+.1f}" if kind == "idle" else f"{taken:.0f} us x{ratio:.2f}")
        print(f"{name:30}" + "".join(f"{cell:>18}" for cell in cells))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", help="an empty database of a server, instead of SQLite files")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--requests", type=int, default=100)
    parser.add_argument("--contend", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contend:
        contend(options.contend)
        return
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("BENCHMARK_FOLDER")))
    try:
        url = options.url or f"sqlite:///{folder}/{{number}}.sqlite3"
        report(f"microseconds for a request, {url.partition(':')[0]}", measure(url, options.rounds, options.requests))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
