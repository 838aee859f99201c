"""Tests of what an error of a database server tells the client: the tests of a project know SQLite."""

from pathlib import Path

import pytest

from tests.commands import PYTHON, run
from tests.conftest import Bake
from tests.servers import ADMINISTRATORS, database_on

CODE = """
from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, create_engine, event, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Mapped, Session
from app.database_errors import as_http_error
from app.db import engine
from tests.things import TestBase, Thing, mapped_column

class Place(TestBase):
    __tablename__ = "places"
    __table_args__ = (UniqueConstraint("row_no", "shelf"), CheckConstraint("shelf > 0", name="shelf"))
    id: Mapped[int] = mapped_column(primary_key=True)
    row_no: Mapped[int]
    shelf: Mapped[int]

class Lid(TestBase):
    __tablename__ = "lids"
    id: Mapped[int] = mapped_column(primary_key=True)
    thing_id: Mapped[int] = mapped_column(ForeignKey("things.id"))

def told(action):
    with Session(engine) as session:
        try:
            action(session)
            session.commit()
        except SQLAlchemyError as error:
            answer = as_http_error(error)
            fields = [fault["field"] for fault in getattr(answer, "errors", [])]
            return answer and (answer.code, fields or answer.description)

def add(row):
    return told(lambda session: session.add(row))

for model in (Thing, Place, Lid):
    model.__table__.create(engine)
assert add(Thing(name="box")) is None
assert add(Place(row_no=1, shelf=2)) is None
print("unique", add(Thing(name="box")))
print("unique pair", add(Place(row_no=1, shelf=2)))
print("primary key", add(Thing(id=1, name="bag")))
print("reference", add(Lid(thing_id=99)))
assert add(Lid(thing_id=1)) is None
print("referenced", told(lambda session: session.execute(text("DELETE FROM things"))))
print("check", add(Place(row_no=1, shelf=0)))
print("too long", add(Thing(name="x" * 101)))
print("out of range", add(Place(row_no=2**63, shelf=1)))
print("no such table", told(lambda session: session.execute(text("SELECT * FROM nowhere"))))
print("no value", told(lambda session: session.execute(text("INSERT INTO things (name) VALUES ('x')"))))

def locked(session):
    with Session(engine) as other:
        other.get(Thing, 1, with_for_update=True)
        wait = "SET LOCAL lock_timeout = '10ms'" if engine.name == "postgresql" else "SET innodb_lock_wait_timeout = 1"
        session.execute(text(wait))
        session.get(Thing, 1, with_for_update=True)

print("locked", told(locked))
def dies_at_commit(session):
    @event.listens_for(engine, "commit", once=True)
    def kill(connection):
        with create_engine(engine.url, isolation_level="AUTOCOMMIT").connect() as other:
            if engine.name == "postgresql":
                other.execute(text("SELECT pg_terminate_backend(:id)"), {"id": connection.connection.driver_connection.info.backend_pid})
            else:
                other.exec_driver_sql(f"KILL {connection.connection.thread_id()}")
    session.add(Thing(name="lost"))

with Session(engine) as session:
    assert session.get(Thing, 2**31) is None
print("lost at commit", told(dies_at_commit))
print("no server", told(lambda _: create_engine(engine.url.set(port=1)).connect()))
"""

EXPECTED = {
    "unique": "(409, ['name'])",
    "unique pair": "(409, ['row_no', 'shelf'])",
    "primary key": "(409, ['id'])",
    "reference": "(409, 'This names something that is not there.')",
    "referenced": "(409, 'This is still in use.')",
    "check": "(422, 'The database does not accept one of the values.')",
    "too long": "(422, 'The database does not accept one of the values.')",
    "out of range": "(422, 'The database does not accept one of the values.')",
    "no such table": "None",
    "no value": "None",
    "locked": "(503, 'The database is busy. Try again.')",
    "lost at commit": "None",
    "no server": "(503, 'The database cannot be reached. Try again later.')",
}


@pytest.mark.parametrize("server", ADMINISTRATORS)
def test_each_error_of_a_server_tells_the_client_what_sqlite_tells(bake: Bake, server: str) -> None:
    project: Path = bake()

    setup = "import os, tests; os.environ['DATABASE_URL'] = os.environ['SERVER_URL']"  # tests would have it SQLite
    with database_on(server) as url:
        said = run(PYTHON, "-c", setup + CODE, cwd=project, variables={"SERVER_URL": url}).stdout

    expected = EXPECTED | (
        {"primary key": "(409, 'This is already there.')"} if server == "mariadb" else {}
    )  # it calls each of them PRIMARY
    assert said.splitlines() == [f"{name} {answer}" for name, answer in expected.items()]
