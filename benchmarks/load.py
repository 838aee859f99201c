"""What the app does under load: gunicorn with the generated app, beside the same routes on Flask-SQLAlchemy, in turns.

    python benchmarks/load.py [--url sqlite:// postgresql+psycopg://…/empty_database] [--seconds 10] [--requests 100000]

Both are served as the generated app is, by two processes of four threads, and asked by wrk over sixteen connections: reads of
a row, inserts, and nine reads for each insert. What is printed is the requests in a second, the median and the 99th percentile
of their milliseconds, and the ratio; then the memory of the generated app after a thousand requests and after many,
and the connections that it holds. It fails if an answer is a 5xx, or if the rows are not as many as the answers 201.
"""

import argparse
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.request import Request, urlopen

from sqlalchemy import create_engine, make_url, text

ROOT = Path(__file__).parent.parent
RAW = ROOT / "{{cookiecutter.project_slug}}"

GENERATED = '''"""The generated app, with a route that inserts."""

from app import create_app
from app.db import session
from app.models import User
from flask import request

app = create_app({"SECRET_KEY": "benchmark"})


@app.get("/read")
def read():
    user = session.get_one(User, 1)
    return {"id": user.id, "name": user.name, "email": user.email}


@app.post("/write")
def write():
    return {"id": User(**request.get_json()).save().id}, 201
'''

FLASK_SQLALCHEMY = '''"""The same on Flask-SQLAlchemy."""

import os

from flask import Flask, request
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy import String
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Model(DeclarativeBase):
    pass


db = SQLAlchemy(model_class=Model)


class User(db.Model):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254), unique=True)


app = Flask(__name__)
app.config["SQLALCHEMY_DATABASE_URI"] = os.environ["DATABASE_URL"]
db.init_app(app)


@app.get("/healthz")
def healthz():
    return ""


@app.get("/read")
def read():
    user = db.session.get_one(User, 1)
    return {"id": user.id, "name": user.name, "email": user.email}


@app.post("/write")
def write():
    user = User(**request.get_json())
    db.session.add(user)
    db.session.commit()
    return {"id": user.id}, 201


if __name__ == "__main__":
    with app.app_context():
        db.create_all()
'''

SCRIPT = """
local threads = {}
function setup(thread) table.insert(threads, thread); thread:set("number", #threads) end
function init(args)
  share, run, sent, made, failed = tonumber(args[1]), args[2], 0, 0, 0
end
function request()
  sent = sent + 1
  if sent % 10 >= share then return wrk.format("GET", "/read") end
  local body = string.format('{"name": "Ada", "email": "u%d-%d@%s.example.com"}', number, sent, run)
  return wrk.format("POST", "/write", {["Content-Type"] = "application/json"}, body)
end
function response(status)
  if status == 201 then made = made + 1 end
  if status >= 500 then failed = failed + 1 end
end
function done()
  local made, failed = 0, 0
  for _, thread in ipairs(threads) do made = made + thread:get("made"); failed = failed + thread:get("failed") end
  io.write(string.format("Made: %d\\nFailed: %d\\n", made, failed))
end
"""

KINDS = {"read": 0, "write": 10, "mix": 1}
"""How many of ten requests insert a row."""


@dataclass
class Load:
    """What a load has shown."""

    per_second: float
    median: float
    """Milliseconds."""
    slowest: float
    """The 99th percentile, in milliseconds."""
    made: int
    failed: int


def ask(port: int, kind: str, seconds: float, script: Path, run: str) -> Load:
    """Send requests of a kind for some seconds."""
    command = ["wrk", "--threads", "2", "--connections", "16", "--duration", f"{max(round(seconds), 1)}s", "--latency"]
    command += ["--script", str(script), f"http://127.0.0.1:{port}", "--", str(KINDS[kind]), run]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "Socket errors" not in told, told

    def milliseconds(percentile: str) -> float:
        found = re.search(rf"{percentile}%\s+([\d.]+)(us|ms|s)", told)
        assert found, told
        return float(found[1]) * {"us": 0.001, "ms": 1, "s": 1000}[found[2]]

    def number(name: str) -> float:
        found = re.search(rf"{name}:\s+([\d.]+)", told)
        assert found, told
        return float(found[1])

    return Load(
        number("Requests/sec"), milliseconds("50"), milliseconds("99"), int(number("Made")), int(number("Failed"))
    )


class Server:
    """An app that gunicorn serves."""

    def __init__(self, name: str, url: str, folder: Path) -> None:
        """Write the app, and make its table with one row."""
        self.name, self.url, self.folder = name, url, folder
        self.settings = {**os.environ, "DATABASE_URL": url, "LOG_LEVEL": "WARNING"}
        for foreign in ("PYTHONDONTWRITEBYTECODE", "WEB_CONCURRENCY", "PORT"):
            self.settings.pop(foreign, None)
        if name == "generated app":
            shutil.copytree(RAW, folder)
            (folder / "served.py").write_text(GENERATED)
            self.command("-m", "alembic", "upgrade", "head")
        else:
            folder.mkdir()
            shutil.copy(RAW / "gunicorn.conf.py", folder)
            (folder / "served.py").write_text(FLASK_SQLALCHEMY)
            self.command("served.py")
        self.engine = create_engine(url)

    def command(self, *arguments: str) -> None:
        """Run Python in the folder of the app."""
        done = subprocess.run(
            [sys.executable, *arguments], cwd=self.folder, env=self.settings, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr

    def rows(self) -> int:
        """Return how many rows there are."""
        with self.engine.connect() as connection:
            return int(connection.scalar(text("SELECT count(*) FROM users")) or 0)

    @contextmanager
    def running(self) -> Iterator[int]:
        """Serve on a free port while the block runs."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = int(listener.getsockname()[1])
        command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "served:app"]
        self.process = subprocess.Popen(command, cwd=self.folder, env=self.settings, stderr=subprocess.DEVNULL)
        try:
            for _ in range(100):
                try:
                    urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.1)
            time.sleep(2)  # until the other process is there too: wrk keeps the connections that it has got first
            yield port
        finally:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(60)

    def memory(self) -> float:
        """Return the megabytes that its processes have for themselves, and their share of the rest."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        rollups = [Path(f"/proc/{number}/smaps_rollup").read_text() for number in children]
        return sum(int(re.findall(r"^Pss:\s+(\d+)", rollup, re.MULTILINE)[0]) for rollup in rollups) / 1024

    def connections(self) -> int:
        """Return how many connections to the database its processes have."""
        if self.url.startswith("sqlite"):
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
            names = []
            for number in children:
                for each in Path(f"/proc/{number}/fd").iterdir():
                    with suppress(FileNotFoundError):  # it has just been closed
                        names.append(str(each.readlink()))
            return sum(name.endswith(".sqlite3") for name in names)
        with self.engine.connect() as connection:
            query = "SELECT count(*) - 1 FROM pg_stat_activity WHERE datname = current_database()"
            return int(connection.scalar(text(query)) or 0)


def measure(url: str, seconds: float, requests: int, scratch: Path) -> None:
    """Compare the two on a database, and print it; then look at the memory of the generated app."""
    script = scratch / "requests.lua"
    script.write_text(SCRIPT)
    servers = []
    for number, name in enumerate(("Flask-SQLAlchemy", "generated app")):
        folder = scratch / f"{make_url(url).get_backend_name()}-{number}"
        own = f"sqlite:///{folder}.sqlite3" if url == "sqlite://" else fresh(url, f"load_{number}")
        servers.append(Server(name, own, folder))
    print(f"\n{make_url(url).get_backend_name()}: requests in a second, p50 and p99 in milliseconds\n")
    found: dict[tuple[str, str], Load] = {}
    for kind in KINDS:
        for server in servers:
            with server.running() as port:
                insert_row(port, f"first-{kind}")  # the row that is read, and a warm app
                before = server.rows()
                load = found[kind, server.name] = ask(port, kind, seconds, script, f"{kind}-{time.time_ns()}")
                time.sleep(0.5)  # what was sent last, and whose answer wrk has not awaited
                made = server.rows() - before
            ratio = load.per_second / found[kind, "Flask-SQLAlchemy"].per_second
            numbers = f"{load.per_second:8.0f}/s (x{ratio:.2f}) {load.median:7.1f} {load.slowest:7.1f}"
            print(
                f"{kind:6} {server.name:18} {numbers}   {load.failed} errors 5xx, {load.made} answers 201, {made} rows"
            )
            if server.name == "generated app":
                assert load.failed == 0
                assert load.made <= made <= load.made + 16, "a row is lost, or nobody was told of it"
    with servers[1].running() as port:
        insert_row(port, "memory")
        total = 0.0
        early = (0.0, 0)
        while total < requests:
            load = ask(port, "mix", 1 if not total else seconds, script, f"memory-{time.time_ns()}")
            total += load.per_second * (seconds if total else 1)
            assert load.failed == 0
            early = early if early[0] else (servers[1].memory(), servers[1].connections())
        late = (servers[1].memory(), servers[1].connections())
    print(f"memory after the first second {early[0]:.1f} MB, after {total:.0f} requests {late[0]:.1f} MB; ", end="")
    print(f"connections {early[1]}, {late[1]}")
    for server in servers:
        server.engine.dispose()


def insert_row(port: int, name: str) -> None:
    """Insert a row."""
    body = f'{{"name": "Ada", "email": "{name}-{time.time_ns()}@example.com"}}'.encode()
    urlopen(Request(f"http://127.0.0.1:{port}/write", body, {"Content-Type": "application/json"})).close()


def fresh(url: str, name: str) -> str:
    """Make an empty database beside the named one, and return its URL."""
    named = make_url(url)
    server = create_engine(named, isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"DROP DATABASE IF EXISTS {named.database}_{name}")
        connection.exec_driver_sql(f"CREATE DATABASE {named.database}_{name}")
    server.dispose()
    return named.set(database=f"{named.database}_{name}").render_as_string(hide_password=False)


def start(scratch: Path) -> None:
    """Print how long a worker takes from its first import to an app that is ready."""
    project = scratch / "start"
    shutil.copytree(RAW, project)
    code = "import time; began = time.perf_counter(); from app import create_app; create_app(); print(time.perf_counter() - began)"
    settings = {**os.environ, "SECRET_KEY": "benchmark"}
    settings.pop("PYTHONDONTWRITEBYTECODE", None)
    command = [sys.executable, "-c", code]
    times = sorted(
        float(subprocess.run(command, cwd=project, env=settings, capture_output=True, text=True, check=True).stdout)
        for _ in range(7)
    )
    print(f"start of a worker, from its first import to an app that is ready: {times[3]:.2f} s")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", nargs="+", default=["sqlite://"], help="sqlite://, or a database of PostgreSQL")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--requests", type=int, default=100_000, help="before the memory is looked at again")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        parser.error("wrk is missing: apt-get install wrk")
    with tempfile.TemporaryDirectory() as scratch:
        start(Path(scratch))
        for url in options.url:
            measure(url, options.seconds, options.requests, Path(scratch))


if __name__ == "__main__":
    main()
