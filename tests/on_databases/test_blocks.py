"""`transaction`: the outermost commits, the inner ones are savepoints, and whatever is raised rolls back."""

import asyncio
import threading
from contextlib import nullcontext, suppress

import pytest
from app.db import engine, session, session_factory
from app.transactions import on_commit, transaction
from flask import copy_current_request_context
from rules.conftest import Page, Part, Thing, kill, names
from rules.test_conflicts import sqlite_busy
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError


def statements():
    """Return a list to which every statement is added."""
    sent = []

    @event.listens_for(engine, "after_cursor_execute")
    def note(_connection, _cursor, statement, *_):
        sent.append(statement)

    return sent, lambda: event.remove(engine, "after_cursor_execute", note)


@pytest.mark.parametrize(
    "write",
    [
        lambda: Thing(name="box").save(),
        lambda: session.add(Thing(name="box")),
        lambda: session.execute(insert(Thing).values(name="box", size=0)),
        lambda: session.execute(text("INSERT INTO things (name, size) VALUES ('box', 0)")),
        lambda: session.bulk_insert_mappings(Thing.__mapper__, [{"name": "box"}]),
    ],
    ids=["save", "add", "core", "text", "bulk"],
)
def test_the_outermost_commits(write) -> None:
    with transaction():
        write()

    assert names() == ["box"]


@pytest.mark.parametrize("error", [LookupError, SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError])
def test_whatever_is_raised_rolls_back(error) -> None:
    with pytest.raises(error), transaction():
        Thing(name="box").save()
        raise error

    assert names() == []
    assert not session.registry.has()


def test_it_releases_the_session_and_its_objects_can_be_read() -> None:
    with transaction() as current:
        thing = Thing(name="box").save()
        assert current is session()

    assert not session.registry.has()
    assert engine.pool.checkedout() == 0
    assert (thing.id, thing.name) == (2, "box")


def test_so_does_a_decorated_function() -> None:
    thing = transaction(Thing(name="box").save)()

    assert not session.registry.has()
    assert engine.pool.checkedout() == 0
    assert thing.name == "box"


def test_a_session_that_was_there_before_stays_and_sees_what_others_do_then() -> None:
    thing = session.get(Thing, 1)

    with transaction():
        thing.size = 3

    with engine.begin() as connection:
        connection.execute(update(Thing).values(size=Thing.size + 4))
    assert thing in session
    assert thing.size == 7


def test_a_commit_that_fails_is_raised_and_rolled_back() -> None:
    with pytest.raises(IntegrityError), transaction():
        Thing(name="box").save()
        session.add(Thing(name="counter"))

    assert names() == []
    assert engine.pool.checkedout() == 0


@pytest.mark.parametrize("decorate", [transaction, transaction(), transaction(attempts=3)])
def test_as_a_decorator(decorate) -> None:
    @decorate
    def work(name, *, fails=False):
        """Work."""
        Thing(name=name).save()
        if fails:
            raise LookupError
        return name

    assert work("box") == "box"
    with pytest.raises(LookupError):
        work("bag", fails=True)
    assert work.__name__ == "work"
    assert names() == ["box"]


def test_a_decorated_function_may_call_itself() -> None:
    @transaction
    def work(count):
        Thing(name=f"{count}").save()
        if count:
            work(count - 1)

    work(2)

    assert names() == ["2", "1", "0"]


def test_a_decorated_coroutine_function() -> None:
    runs = []

    @transaction(attempts=2)
    async def work(fails):
        runs.append(fails)
        Thing(name="box").save()
        await asyncio.sleep(0)
        if fails:
            raise LookupError
        return 1

    with pytest.raises(LookupError):
        asyncio.run(work(True))
    assert names() == []
    assert asyncio.run(work(False)) == 1
    assert runs == [True, False]
    assert work.__name__ == "work"
    assert names() == ["box"]


def test_a_generator_is_refused() -> None:
    def pieces():
        yield

    async def async_pieces():
        yield

    for function in (pieces, async_pieces):
        with pytest.raises(TypeError, match=r"with transaction\(\)"):
            transaction(function)


def test_a_block_cannot_be_repeated() -> None:
    with pytest.raises(TypeError, match="attempts"), transaction(attempts=2):
        raise AssertionError("never")


def test_one_object_may_be_used_again_and_within_itself() -> None:
    block = transaction()
    with block:
        Thing(name="one").save()
        with block:
            Thing(name="two").save()
    with block:
        Thing(name="three").save()

    assert names() == ["one", "two", "three"]


def test_an_inner_one_is_a_savepoint() -> None:
    with transaction():
        Thing(name="before").save()
        with pytest.raises(LookupError), transaction():
            Thing(name="inner").save()
            raise LookupError
        Thing(name="after").save()
        assert names() == []

    assert names() == ["before", "after"]


@pytest.mark.parametrize("fails", [True, False])
def test_an_inner_one_ends_what_it_has_left_open(fails) -> None:
    called = []
    with transaction():
        with suppress(LookupError), transaction():
            Thing(name="inner").save()
            on_commit(lambda: called.append("inner"))
            session.begin_nested()
            Thing(name="innermost").save()
            if fails:
                raise LookupError
        Thing(name="after").save()

    assert names() == (["after"] if fails else ["inner", "innermost", "after"])
    assert called == ([] if fails else ["inner"])


@pytest.mark.parametrize("end", [session.commit, session.rollback])
def test_an_inner_one_that_has_ended_the_transaction_rolls_back_what_it_did_then(end) -> None:
    called = []
    with transaction():
        with pytest.raises(LookupError), transaction():
            end()
            Thing(name="late").save()
            on_commit(lambda: called.append("late"))
            raise LookupError
        Thing(name="after").save()

    assert names() == ["after"]
    assert called == []


def test_an_inner_one_that_ends_the_savepoint_around_it_rolls_back_no_more() -> None:
    with transaction():
        Thing(name="before").save()
        around = session.begin_nested()
        with pytest.raises(LookupError), transaction():
            around.rollback()
            raise LookupError

    assert names() == ["before"]


def test_a_function_that_removes_the_session_does_not_end_well(app, client) -> None:
    @transaction
    def remove():
        Thing(name="lost").save()
        session.remove()

    @app.post("/rule")
    def view():
        remove()
        return ""

    with pytest.raises(RuntimeError, match="removed within transaction"):
        remove()
    assert client.post("/rule").status_code == 500
    assert names() == []


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has no connection to kill")
@pytest.mark.parametrize("error", [LookupError, KeyboardInterrupt])
@pytest.mark.parametrize("around", [nullcontext, transaction], ids=["outermost", "inner"])
def test_a_dead_connection_hides_no_other_error(error, around) -> None:
    with pytest.raises(error), around(), transaction():
        Thing(name="lost").save()
        kill(session.connection())
        raise error

    assert names() == []
    assert engine.pool.checkedout() == 0


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has no connection to kill")
def test_a_dead_connection_that_a_view_has_swallowed_commits_nothing(app, client) -> None:
    @app.post("/rule")
    def view():
        Thing(name="before").save()
        with suppress(LookupError), transaction():
            Thing(name="lost").save()
            kill(session.connection())
            raise LookupError
        return ""

    assert client.post("/rule").status_code >= 500
    assert names() == []


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has no connection to kill")
def test_a_context_ends_with_its_own_error_on_a_dead_connection(app) -> None:
    with pytest.raises(LookupError), app.app_context():
        session.scalars(select(Thing)).all()
        kill(session.connection())
        raise LookupError

    assert engine.pool.checkedout() == 0


def test_an_inner_one_that_the_database_refuses_keeps_the_rest() -> None:
    with transaction():
        Thing(name="before").save()
        with pytest.raises(IntegrityError), transaction():
            session.execute(insert(Thing).values(name="counter", size=0))
        with pytest.raises(IntegrityError), transaction():
            session.add(Thing(name="counter"))
        with pytest.raises(IntegrityError), transaction():
            Thing(name="inner").save()
            Thing(name="counter").save()
        Thing(name="after").save()

    assert names() == ["before", "after"]


def test_a_foreign_key_is_checked_in_the_inner_one() -> None:
    with transaction():
        with pytest.raises(IntegrityError), transaction():
            Part(thing_id=99).save()
        Thing(name="after").save()

    assert names() == ["after"]


def test_what_was_pending_before_an_inner_one_belongs_to_the_outer() -> None:
    with transaction():
        session.add(Thing(name="pending"))
        with pytest.raises(LookupError), transaction():
            Thing(name="inner").save()
            raise LookupError

    assert names() == ["pending"]


@pytest.mark.parametrize("status", [200, 400])
def test_in_a_request_the_response_decides(app, client, status) -> None:
    @app.post("/rule")
    def view():
        with transaction():
            Thing(name="block").save()
        assert names() == []
        with pytest.raises(LookupError), transaction():
            Thing(name="failed").save()
            raise LookupError
        return "", status

    client.post("/rule")

    assert names() == (["block"] if status == 200 else [])


def test_in_a_request_a_decorated_function_is_a_savepoint(app, client) -> None:
    @transaction(attempts=5)
    def work():
        Thing(name="block").save()

    @app.post("/rule")
    def view():
        work()
        return "", 400

    client.post("/rule")

    assert names() == []


@pytest.mark.parametrize("push", ["app_context", "copied", "thread"])
def test_where_the_response_decides_nothing_it_is_the_outermost(app, client, push) -> None:
    def work():
        with transaction():
            Thing(name="own").save()

    def in_context():
        with app.app_context():
            work()

    @app.post("/rule")
    def view():
        target = {"app_context": in_context, "copied": copy_current_request_context(work), "thread": work}[push]
        if push == "app_context":
            target()
        else:
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        return "", 400

    client.post("/rule")

    assert names() == ["own"]


def test_in_a_stream_and_in_a_teardown_it_is_the_outermost(app, client) -> None:
    @app.teardown_request
    def end(_error):
        with transaction():
            Thing(name="teardown").save()

    @app.get("/rule")
    def view():
        def pieces():
            yield "a"
            with transaction():
                Thing(name="stream").save()

        return pieces()

    assert client.get("/rule").text == "a"
    assert sorted(names()) == ["stream", "teardown"]


def test_in_an_async_view(app, client) -> None:
    pytest.importorskip("asgiref")

    @app.post("/rule")
    async def view():
        with transaction():
            Thing(name="async").save()
        await asyncio.sleep(0)
        with pytest.raises(LookupError), transaction():
            Thing(name="failed").save()
            raise LookupError
        return ""

    assert client.post("/rule").status_code == 200
    assert names() == ["async"]


def test_a_commit_within_the_block_is_kept() -> None:
    with pytest.raises(LookupError), transaction():
        Thing(name="one").save()
        session.commit()
        Thing(name="two").save()
        raise LookupError

    assert names() == ["one"]


def test_threads_have_transactions_of_their_own() -> None:
    def work():
        with transaction():
            Thing(name="thread").save()

    if engine.name == "sqlite":
        work()
    else:
        with pytest.raises(LookupError), transaction():
            Thing(name="main").save()
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            raise LookupError

    assert names() == ["thread"]


@pytest.mark.skipif(engine.name != "sqlite", reason="for SQLite")
def test_the_outermost_takes_the_lock_of_sqlite_at_once(begins) -> None:
    with transaction():
        session.scalar(select(Thing.size))
    session.scalar(select(Thing.size))
    session.remove()
    with session_factory() as own:
        own.scalar(select(Thing.size))

    assert begins == ["BEGIN IMMEDIATE", "BEGIN DEFERRED", "BEGIN DEFERRED"]


def test_a_savepoint_is_paid_for_by_inner_ones_only() -> None:
    sent, stop = statements()
    try:
        with transaction():
            Thing(name="box").save()
        assert not [each for each in sent if "SAVEPOINT" in each]
        with transaction(), transaction():
            Thing(name="bag").save()
        assert [each for each in sent if "SAVEPOINT" in each]
    finally:
        stop()


def test_a_version_is_counted() -> None:
    with transaction():
        page = Page(text="one").save()
    with transaction():
        page = session.merge(page)
        page.update(text="two")

    assert page.version == 2


def test_each_block_of_a_session_that_was_there_before_commits() -> None:
    session()

    for name in ("first", "second"):
        with transaction():
            Thing(name=name).save()

    session.rollback()
    assert names() == ["first", "second"]


def test_a_block_that_is_interrupted_is_rolled_back() -> None:
    session()

    with pytest.raises(KeyboardInterrupt), transaction():
        Thing(name="box").save()
        raise KeyboardInterrupt

    assert not session().in_transaction()


def test_a_function_within_another_transaction_runs_once() -> None:
    runs = []

    @transaction(attempts=3)
    def inner():
        runs.append(1)
        raise OperationalError("", {}, sqlite_busy())

    with pytest.raises(OperationalError), transaction():
        inner()

    assert len(runs) == 1
