"""The database servers that the tests use where they run: a database of its own for each test, dropped after it."""

import os
import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url

ADMINISTRATORS = {
    "postgresql": os.environ.get("POSTGRESQL_ADMIN_URL", "postgresql+psycopg://postgres@127.0.0.1:5432/postgres"),
    "mariadb": os.environ.get("MARIADB_ADMIN_URL", "mariadb+pymysql://root@127.0.0.1:3306/"),
}
"""Who may create databases, and where."""

SERVERS = {"postgresql": "postgresql", "mysql": "mariadb"}
"""The server for the answer to the question `database`."""

BROKERS = {
    "redis": os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0"),
    "rabbitmq": os.environ.get("RABBITMQ_URL", "amqp://guest:guest@127.0.0.1:5672//"),
}
"""Where tasks can be queued."""


def require(server: str, host: str | None, port: int | None) -> None:
    """Skip the test, by name, where a server is missing; fail it where `REQUIRE_SERVICES` is set."""
    try:
        socket.create_connection((host or "127.0.0.1", port or 0), timeout=5).close()
    except OSError as error:
        message = f"no {server} at {host}:{port}: {error}"
        assert not os.environ.get("REQUIRE_SERVICES"), message
        pytest.skip(message)


def broker(server: str) -> str:
    """Return the URL of a broker; skip the test, by name, where it is missing."""
    parts = urlsplit(BROKERS[server])
    require(server, parts.hostname, parts.port)
    return BROKERS[server]


def lasting_port() -> int:
    """Return a free port that no client is given while the server is away: below the range of those."""
    for port in random.sample(range(15000, 30000), 100):
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no port is free")


@contextmanager
def database_on(server: str) -> Iterator[str]:
    """Make an empty database and return its URL; skip the test, by name, where the server is missing."""
    url = make_url(ADMINISTRATORS[server])
    require(server, url.host, url.port)
    name = f"template_test_{uuid4().hex[:12]}"
    administrator = create_engine(url, isolation_level="AUTOCOMMIT")
    try:
        with administrator.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        administrator.dispose()
        drop_databases(server, name)


def drop_databases(server: str, name: str) -> None:
    """Drop the databases whose names begin with `name`: the tests of a project make some, named after theirs."""
    listing = "SELECT datname FROM pg_database" if server == "postgresql" else "SHOW DATABASES"
    force = " WITH (FORCE)" if server == "postgresql" else ""
    administrator = create_engine(ADMINISTRATORS[server], isolation_level="AUTOCOMMIT")
    with administrator.connect() as connection:
        for made in connection.exec_driver_sql(listing).scalars().all():
            if made.startswith(name):
                connection.exec_driver_sql(f"DROP DATABASE {made}{force}")
    administrator.dispose()
