"""The tests, one file for each module of the app, and the environment they run in.

Python runs this file before `conftest.py` imports the app, which makes its engine on import.
"""

import os
import re
import sys
from multiprocessing import current_process

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from tests.database import Database, SQLite, UnusableDatabaseError
from tests.mysql import MySQL
from tests.postgresql import PostgreSQL

# A test means the same on every machine: it reads neither `.env` nor what the developer has set.
for name in ("LOG_LEVEL", "MAX_CONTENT_LENGTH", "SECRET_KEY", "TRUSTED_PROXIES", "WEB_CONCURRENCY"):
    os.environ.pop(name, None)
for name in [name for name in os.environ if name.startswith(("DATABASE_", "FLASK_", "SQLITE_", "TRANSACTION_"))]:
    del os.environ[name]
os.environ["PYTHON_DOTENV_DISABLED"] = "1"
# {% if cookiecutter.tasks %}
for name in ("CELERY_BROKER_URL", "CELERY_RESULT_BACKEND"):
    os.environ.pop(name, None)
# {% endif %}


def choose_database(text: str, worker: str) -> Database:
    """Return the database of a worker on what `TEST_DATABASE_URL` names: a server, or SQLite.

    :raises UnusableDatabaseError: in one line.
    """
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        shown = re.sub(r":[^:@/]*@", ":***@", text)  # it may hold a password all the same
        raise UnusableDatabaseError(f"TEST_DATABASE_URL {shown!r} is not a URL of a database.") from None
    if url.drivername == "sqlite" and not url.database:
        return SQLite(worker)
    if url.drivername in ("postgres", "postgresql", "postgresql+psycopg"):
        return PostgreSQL(url, worker)
    if url.drivername in ("mysql", "mariadb", "mysql+pymysql", "mariadb+pymysql"):
        return MySQL(url, worker)
    raise UnusableDatabaseError(
        f"TEST_DATABASE_URL {url.render_as_string()!r} is not for tests: leave it out for SQLite, whose files the tests make"
        " in a folder of their own, or name a server, such as postgresql://user:password@host/shop_test."
    )


def find_database() -> Database:
    """Return the database of this run; that of the test which has started this process, if one has, by `multiprocessing`.

    :raises UnusableDatabaseError: in one line.
    """
    if current_process().name != "MainProcess" and "TEST_DATABASE_IN_USE" in os.environ:
        return Database(os.environ["TEST_DATABASE_IN_USE"])
    url = os.environ.get("TEST_DATABASE_URL") or "sqlite://"
    database = choose_database(url, os.environ.get("PYTEST_XDIST_WORKER", "main"))
    os.environ["TEST_DATABASE_IN_USE"] = database.url
    return database


try:
    DATABASE = find_database()
except UnusableDatabaseError as error:
    sys.exit(str(error))
os.environ["DATABASE_URL"] = DATABASE.url
