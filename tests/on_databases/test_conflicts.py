"""No update is lost: a request that loses a conflict is repeated, whatever the way it writes."""

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress

import pytest
from app.conflicts import is_conflict
from app.db import engine, session, session_factory
from app.transactions import attempts, on_commit, transaction
from app.turns import lock_first
from flask import Response, request, stream_with_context
from rules.conftest import Page, Thing, names, size
from sqlalchemy import select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, SQLAlchemyError
from sqlalchemy.orm import Session


def by_orm(read):
    counter = session.get(Thing, 1)
    read()
    counter.update(size=counter.size + 1)


def by_core(read):
    before = session.scalar(select(Thing.size).where(Thing.id == 1))
    read()
    session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))


def by_text(read):
    before = session.scalar(text("SELECT size FROM things WHERE id = 1"))
    read()
    session.execute(text("UPDATE things SET size = :size WHERE id = 1"), {"size": before + 1})


def in_bulk(read):
    before = session.scalar(select(Thing.size).where(Thing.id == 1))
    read()
    session.bulk_update_mappings(Thing.__mapper__, [{"id": 1, "size": before + 1}])


def by_commit(read):
    by_orm(read)
    session.commit()


mariadb_only = pytest.mark.skipif(engine.name != "mariadb", reason="a savepoint settles a conflict, but not on MariaDB")

WAYS = [by_orm, by_core, by_text, in_bulk, by_commit]


def conflict_once(method="POST"):
    """Return a function to call after a read: the first time, another transaction changes the counter."""
    met = []

    def meet():
        if not met:
            met.append(True)
            with Session(engine) as other:
                if engine.name == "sqlite" and method == "POST":
                    raise OperationalError("", {}, sqlite_busy())
                other.execute(update(Thing).where(Thing.id == 1).values(size=Thing.size + 100))
                other.commit()

    return meet


def sqlite_busy():
    """Return the error of a file that is locked: a request that may write waits for the lock, and meets nobody."""
    import sqlite3

    error = sqlite3.OperationalError("database is locked")
    error.sqlite_errorname = "SQLITE_BUSY"
    return error


ADDED = 0 if engine.name == "sqlite" else 100


@pytest.mark.parametrize("way", WAYS)
def test_no_update_is_lost_by_threads(app, way) -> None:
    @app.post("/rule")
    def view():
        way(lambda: None)
        return ""

    def add(_):
        client = app.test_client()
        return [client.post("/rule").status_code for _ in range(25)]

    with ThreadPoolExecutor(4) as threads:
        answers = [answer for answers in threads.map(add, range(4)) for answer in answers]

    assert answers == [200] * 100
    assert size() == 100


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("way", WAYS)
def test_a_conflict_repeats_the_request(app, way, method) -> None:
    runs = []
    meet = conflict_once(method)

    @app.route("/rule", methods=["GET", "POST"])
    def view():
        runs.append(1)
        way(meet)
        return str(len(runs))

    answer = app.test_client().open("/rule", method=method)

    assert (answer.status_code, answer.text) == (200, "2")
    assert size() == (101 if method == "GET" or ADDED else 1)


def test_the_repeated_request_has_the_same_body_and_a_fresh_context(app, client) -> None:
    from flask import g

    meet, seen = conflict_once(), []

    @app.post("/<name>")
    def view(name):
        mark = g.get("mark") or request.environ.get("mark")
        seen.append((name, request.get_json(), request.args["q"], mark, request.headers["X-Test"]))
        g.mark = request.environ["mark"] = True
        by_orm(meet)
        return ""

    client.post("/x?q=1", json={"a": [1, 2]}, headers={"X-Test": "yes"})

    assert seen == [("x", {"a": [1, 2]}, "1", None, "yes")] * 2


@pytest.mark.parametrize(
    "read",
    [
        lambda: request.get_data(),
        lambda: request.stream.read(),
        lambda: b"".join(iter(lambda: request.stream.read(7), b"")),
        lambda: b"".join(request.stream),
        lambda: io.TextIOWrapper(request.stream).read().encode(),
        lambda: io.BufferedReader(request.environ["wsgi.input"]).read(),
    ],
    ids=["get_data", "stream", "pieces", "lines", "text", "input"],
)
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_a_body_is_read_again(app, client, read, chunked) -> None:
    meet, seen = conflict_once(), []
    body = b"line 1\nline 2\n" * 1000

    @app.post("/rule")
    def view():
        seen.append(read())
        by_orm(meet)
        return ""

    how = {"data": body}
    if chunked:
        how = {
            "input_stream": io.BytesIO(body),
            "headers": {"Transfer-Encoding": "chunked"},
            "environ_overrides": {"wsgi.input_terminated": True},
        }
    assert client.post("/rule", **how).status_code == 200
    assert seen == [body, body]


def test_a_form_and_its_files_are_read_again(app, client) -> None:
    meet, seen = conflict_once(), []

    @app.post("/rule")
    def view():
        seen.append((request.form["name"], request.files["file"].read()))
        by_orm(meet)
        return ""

    client.post("/rule", data={"name": "Ada", "file": (io.BytesIO(b"x" * 5000), "x.txt")})

    assert seen == [("Ada", b"x" * 5000)] * 2


def test_a_large_body_is_not_repeated(app, client) -> None:
    app.config["TRANSACTION_MAX_BODY"] = 10
    meet = conflict_once()

    @app.post("/rule")
    def view():
        request.get_data()
        by_orm(meet)
        return ""

    answer = client.post("/rule", data=b"x" * 11)
    assert answer.status_code == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert client.post("/rule", data=b"x" * 10).status_code == 200


def test_a_request_that_committed_by_itself_is_not_repeated(app, client) -> None:
    runs, meet = [], conflict_once("GET")

    @app.get("/rule")
    def view():
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        session.commit()
        by_orm(meet)
        return ""

    assert client.get("/rule").status_code == 503
    assert names() == ["run 1"]


def test_a_commit_of_nothing_forbids_no_repetition(app, client) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        session.commit()
        if len(runs) == 1:
            raise OperationalError("", {}, sqlite_busy())
        return ""

    assert client.post("/rule").status_code == 200
    assert len(runs) == 2


def test_a_request_that_wrote_in_a_context_of_its_own_is_not_repeated(app, client) -> None:
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        with app.app_context(), transaction():
            Thing(name="own").save()
        by_orm(meet)
        return ""

    assert client.get("/rule").status_code == 503
    assert names() == ["own"]


@pytest.mark.usefixtures("impatient")
def test_the_client_hears_503_after_the_last_attempt(app, client) -> None:
    app.config["TRANSACTION_ATTEMPTS"] = 3
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        if engine.name != "sqlite":
            raise OperationalError("", {}, sqlite_busy())
        session.execute(update(Thing).where(Thing.id == 1).values(size=-1))
        return ""

    with Session(engine) as writer:
        if engine.name == "sqlite":
            app.before_request(lambda: runs.append(1))
            writer.execute(update(Thing).values(size=2))
        answer = client.post("/rule")

    assert answer.status_code == 503
    assert answer.headers["Retry-After"]
    assert answer.content_type == "application/problem+json"
    assert len(runs) == (6 if engine.name == "sqlite" else 3)


@pytest.mark.parametrize("limit", [1, 2])
def test_attempts_limits_one_view(app, client, limit) -> None:
    runs = []

    @app.get("/rule")
    @attempts(limit)
    def view():
        runs.append(1)
        raise OperationalError("", {}, sqlite_busy())

    assert client.get("/rule").status_code == 503
    assert len(runs) == limit


def test_attempts_keeps_an_async_view(app, client) -> None:
    pytest.importorskip("asgiref")

    @app.get("/rule")
    @attempts(1)
    async def view():
        return "async"

    assert client.get("/rule").text == "async"


@pytest.mark.parametrize(("limit", "status"), [(10, 200), (1, 503)])
def test_a_conflict_in_a_task_of_an_async_view_repeats(app, client, limit, status) -> None:
    pytest.importorskip("asgiref")
    app.config["TRANSACTION_ATTEMPTS"], meet = limit, conflict_once()

    async def add_one():
        by_orm(meet)

    @app.post("/rule")
    async def view():
        async with asyncio.TaskGroup() as tasks:  # raises an ExceptionGroup
            tasks.create_task(add_one())
        return "done"

    assert client.post("/rule").status_code == status
    assert size() == ADDED + (status == 200)


def test_a_conflict_is_repeated_before_any_handler_sees_it(app, client) -> None:
    handled, meet = [], conflict_once()
    app.register_error_handler(Exception, lambda error: handled.append(error) or "handled")

    @app.post("/rule")
    def view():
        by_orm(meet)
        return "done"

    assert client.post("/rule").text == "done"
    assert handled == []


def test_a_conflict_of_an_after_request_function_repeats(app, client) -> None:
    meet = conflict_once("GET")

    @app.after_request
    def write(response):
        by_orm(meet)
        return response

    app.add_url_rule("/rule", view_func=lambda: "done")

    assert client.get("/rule").status_code == 200
    assert size() == 101


def test_a_conflict_before_the_request_repeats(app, client) -> None:
    meet = conflict_once("GET")
    app.before_request(lambda: by_orm(meet))
    app.add_url_rule("/rule", view_func=lambda: "done")

    assert client.get("/rule").status_code == 200
    assert size() == 101


def test_a_conflict_of_an_error_handler_repeats(app, client) -> None:
    meet = conflict_once("GET")

    @app.errorhandler(LookupError)
    def answer(_):
        by_orm(meet)
        return "handled"

    @app.get("/rule")
    def view():
        raise LookupError

    assert client.get("/rule").text == "handled"
    assert size() == 101


def test_a_conflict_that_the_view_has_swallowed_repeats(app, client) -> None:
    if engine.name == "sqlite":
        pytest.skip("SQLite keeps the transaction")
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        Thing(name="first").save()
        with suppress(OperationalError):
            by_core(meet)
        return "done"

    assert client.get("/rule").text == "done"
    assert names() == ["first"]
    assert size() == 101


def test_a_conflict_at_the_flush_that_the_view_has_swallowed_repeats(app, client) -> None:
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        counter = session.get(Thing, 1)
        meet()
        counter.size += 1
        with suppress(OperationalError):
            session.flush()
        return "done"

    assert client.get("/rule").text == "done"
    assert size() == 101


def test_a_conflict_in_a_savepoint_of_sqlalchemy_repeats(app, client) -> None:
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        with session.begin_nested():
            by_core(meet)
        return "done"

    assert client.get("/rule").text == "done"
    assert size() == 101


def test_what_waits_for_the_commit_happens_once(app, client) -> None:
    called, meet = [], conflict_once()

    @app.post("/rule")
    def view():
        on_commit(lambda: called.append(size()))
        by_orm(meet)
        return ""

    client.post("/rule")

    assert called == [ADDED + 1]


def test_a_stale_version_is_repeated_then_409(app, client) -> None:
    with Session(engine) as own:
        own.add(Page(id=1, text="old"))
        own.commit()
    runs = []

    @app.post("/<int:seen>")
    def view(seen):
        runs.append(1)
        page = session.get(Page, 1)
        session.execute(text("UPDATE pages SET version = version + 1")) if len(runs) <= seen else None
        page.update(text=f"seen {seen}, run {len(runs)}")
        return ""

    assert client.post("/1").status_code == 200
    with Session(engine) as own:
        assert own.get_one(Page, 1).text == "seen 1, run 2"

    runs.clear()
    answer = client.post("/99")
    assert answer.status_code == 409
    assert len(runs) == 10
    assert answer.content_type == "application/problem+json"


def test_a_dead_connection_is_no_conflict(app, client) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        Thing(name="lost").save()
        error = sqlite_busy()
        raise OperationalError("", {}, error, connection_invalidated=True)

    assert client.post("/rule").status_code == 503
    assert len(runs) == 1


def test_a_decorated_function_is_repeated_on_conflict() -> None:
    runs, meet = [], conflict_once("GET")

    @transaction(attempts=3)
    def add():
        runs.append(1)
        if engine.name == "sqlite" and len(runs) == 1:
            raise OperationalError("", {}, sqlite_busy())
        by_orm(meet if engine.name != "sqlite" else (lambda: None))
        return len(runs)

    assert add() == 2
    assert size() == ADDED + 1


@contextmanager
def savepoint_within_a_savepoint():
    with transaction(), session.begin_nested():
        yield


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
@pytest.mark.parametrize("around", [transaction, lambda: session.begin_nested(), savepoint_within_a_savepoint])
def test_a_decorated_function_is_repeated_on_a_conflict_in_a_savepoint(around) -> None:
    runs, meet = [], conflict_once()

    @transaction(attempts=3)
    def add():
        runs.append(1)
        Thing(name="before").save()
        with around():
            by_core(meet)

    add()
    assert len(runs) == 2
    assert size() == 101
    assert names() == ["before"]


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
def test_a_block_knows_nothing_of_what_its_session_lost_before() -> None:
    with suppress(SQLAlchemyError):
        by_core(conflict_once())
    session.rollback()

    with pytest.raises(IntegrityError), transaction():
        Thing(name="counter").save()


@pytest.mark.parametrize(
    "work", [lambda: Thing(name="before").save(), lambda: on_commit(list)], ids=["row", "callback"]
)
def test_a_decorated_function_is_not_repeated_if_that_would_lose_what_came_before(work) -> None:
    runs = []

    @transaction(attempts=3)
    def lose():
        runs.append(1)
        raise OperationalError("", {}, sqlite_busy())

    session.scalars(select(Thing)).all()
    work()
    with pytest.raises(OperationalError):
        lose()

    assert len(runs) == 1


def test_a_decorated_function_is_repeated_though_its_session_has_read_before() -> None:
    runs = []

    @transaction(attempts=3)
    def lose_once():
        runs.append(1)
        if len(runs) == 1:
            raise OperationalError("", {}, sqlite_busy())

    session.scalars(select(Thing)).all()
    lose_once()

    assert len(runs) == 2


@mariadb_only
def test_a_decorated_function_is_repeated_on_a_conflict_that_it_has_swallowed_in_a_savepoint() -> None:
    runs, meet = [], conflict_once()

    @transaction(attempts=3)
    def add():
        runs.append(1)
        with session.begin_nested():
            with suppress(SQLAlchemyError), session.begin_nested():
                by_core(meet)
            Thing(name="after").save()

    add()
    assert len(runs) == 2
    assert size() == 101
    assert names() == ["after"]


def and_ask_again(meet) -> None:
    with suppress(SQLAlchemyError):
        by_core(meet)
    session.scalar(select(Thing.size))


def at_the_flush(meet) -> None:
    thing = session.get(Thing, 1)
    meet()
    thing.size += 1
    with suppress(SQLAlchemyError):
        session.flush()


def in_a_savepoint(meet) -> None:
    thing = Thing(name="lost").save()
    with suppress(SQLAlchemyError), session.begin_nested():
        by_core(meet)
    session.refresh(thing)


def in_a_savepoint_by_hand(meet) -> None:
    session.scalar(select(Thing.size))
    session.execute(text("SAVEPOINT a"))
    try:
        by_core(meet)
    except SQLAlchemyError:
        session.execute(text("ROLLBACK TO SAVEPOINT a"))
        raise


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
@pytest.mark.parametrize(
    "lose", [and_ask_again, at_the_flush, pytest.param(in_a_savepoint, marks=mariadb_only), in_a_savepoint_by_hand]
)
def test_a_decorated_function_is_repeated_on_an_error_that_follows_a_conflict(lose) -> None:
    runs, meet = [], conflict_once()

    @transaction(attempts=3)
    def add():
        runs.append(1)
        if len(runs) == 1:
            lose(meet)
        else:
            Thing(name="found").save()

    add()
    assert len(runs) == 2
    assert size() == 100
    assert names() == ["found"]


def test_functions_in_threads_lose_nothing() -> None:
    @transaction(attempts=20)
    def add():
        counter = session.get(Thing, 1)
        counter.size += 1

    def repeat():
        for _ in range(25):
            add()

    threads = [threading.Thread(target=repeat) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert size() == 100


def test_which_errors_are_conflicts() -> None:
    def error_of(sql):
        with Session(engine) as own:
            try:
                own.execute(text(sql))
            except SQLAlchemyError as error:
                return error

    assert not is_conflict(error_of("SELECT * FROM nowhere"))
    assert not is_conflict(error_of("INSERT INTO things (id, name, size) VALUES (1, 'x', 1)"))
    assert not is_conflict(ValueError())


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
@pytest.mark.parametrize("around", [nullcontext, lambda: suppress(OperationalError)], ids=["raised", "swallowed"])
def test_a_deadlock_is_a_conflict(app, around) -> None:
    with Session(engine) as own:
        own.add(Thing(id=2, name="second"))
        own.commit()
    barrier, first = threading.Barrier(2), threading.local()

    @app.post("/<int:one>/<int:other>")
    def view(one, other):
        session.execute(update(Thing).where(Thing.id == one).values(size=Thing.size + 1))
        if not hasattr(first, "run"):
            first.run = True
            barrier.wait(10)
        with around():
            session.execute(update(Thing).where(Thing.id == other).values(size=Thing.size + 1))
        return ""

    with ThreadPoolExecutor(2) as threads:
        answers = list(threads.map(lambda path: app.test_client().post(path).status_code, ["/1/2", "/2/1"]))

    assert answers == [200, 200]
    with Session(engine) as own:
        assert own.scalars(select(Thing.size)).all() == [2, 2]


@pytest.mark.skipif(engine.name != "mariadb", reason="elsewhere a lock is waited for until somebody gives up")
def test_a_lock_that_is_waited_for_too_long_is_a_conflict(app, client) -> None:
    runs = []
    with Session(engine) as other:
        other.execute(update(Thing).where(Thing.id == 1).values(size=Thing.size + 100))

        @app.post("/rule")
        def view():
            runs.append(1)
            if len(runs) == 2:
                other.commit()
            session.execute(text("SET STATEMENT innodb_lock_wait_timeout = 1 FOR UPDATE things SET size = size + 1"))
            return ""

        assert client.post("/rule").status_code == 200
    assert len(runs) == 2
    assert size() == 101


def test_there_is_a_pause_before_each_attempt_but_the_first(app, client, monkeypatch) -> None:
    pauses: list[int] = []
    monkeypatch.setattr("app.conflicts.pause", pauses.append)
    monkeypatch.setattr("app.blocks.pause", pauses.append)

    @app.post("/rule")
    @attempts(3)
    def view():
        raise OperationalError("", {}, sqlite_busy())

    assert client.post("/rule").status_code == 503
    assert pauses == [1, 2]

    with pytest.raises(OperationalError):
        transaction(attempts=3)(view.__wrapped__)()
    assert pauses == [1, 2, 1, 2]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "POST", "PUT", "PATCH", "DELETE", "QUERY"])
@pytest.mark.skipif(engine.name != "sqlite", reason="for SQLite")
def test_only_what_may_write_takes_the_lock_of_sqlite(app, client, begins, method) -> None:
    @app.route("/rule", methods=[method], provide_automatic_options=False)
    def view():
        session.get(Thing, 1)
        return ""

    client.open("/rule", method=method)

    safe = method in ("GET", "HEAD", "OPTIONS", "TRACE")
    assert begins == ["BEGIN DEFERRED" if safe else "BEGIN IMMEDIATE"]


@pytest.mark.skipif(engine.name != "sqlite", reason="for SQLite")
def test_a_stale_reader_of_sqlite_begins_immediately_when_it_is_repeated(app, client, begins) -> None:
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        by_orm(meet)
        return ""

    assert client.get("/rule").status_code == 200
    assert begins == ["BEGIN DEFERRED", "BEGIN DEFERRED", "BEGIN IMMEDIATE"]


@pytest.mark.skipif(engine.name != "sqlite", reason="for SQLite")
def test_who_answers_a_failed_commit_takes_no_lock(app, client, begins) -> None:
    @app.errorhandler(IntegrityError)
    def answer(_error):
        return str(session.scalar(select(Thing.size))), 409

    @app.post("/rule")
    def view():
        session.add(Thing(name="counter"))
        return ""

    assert client.post("/rule").status_code == 409
    assert begins == ["BEGIN IMMEDIATE", "BEGIN DEFERRED"]


def test_the_log_says_that_a_request_is_repeated(app, client, caplog) -> None:
    meet = conflict_once()

    @app.post("/rule")
    def view():
        by_orm(meet)
        return json.dumps({})

    with caplog.at_level("INFO"):
        client.post("/rule")

    assert "attempt 1 lost a conflict" in caplog.text


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
def test_who_loses_twice_locks_first_what_it_lost(app, client) -> None:
    runs, blocked = [], []

    def rival() -> None:
        with Session(engine) as other:
            wait = (
                "SET LOCAL lock_timeout = '50ms'" if engine.name == "postgresql" else "SET innodb_lock_wait_timeout = 1"
            )
            other.execute(text(wait))
            try:
                other.execute(update(Thing).where(Thing.id == 1).values(size=Thing.size + 100))
                other.commit()
            except OperationalError as error:
                blocked.append(error)
                other.rollback()
            if engine.name != "postgresql":
                other.execute(text("SET innodb_lock_wait_timeout = DEFAULT"))

    @app.post("/rule")
    def view():
        runs.append(1)
        before = session.scalar(select(Thing.size).where(Thing.id == 1))
        thread = threading.Thread(target=rival)
        thread.start()
        thread.join()
        session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
        return ""

    assert client.post("/rule").status_code == 200
    assert len(runs) == 3
    assert len(blocked) == 1
    assert size() == 201


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
@pytest.mark.parametrize("make", [lambda: Session(engine), session_factory], ids=["of SQLAlchemy", "of the app"])
def test_a_request_with_other_connections_locks_nothing_first(app, client, make) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        before = session.scalar(select(Thing.size).where(Thing.id == 1))
        with make() as other:
            other.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
            other.commit()
        session.execute(update(Thing).where(Thing.id == 1).values(size=-1))
        return ""

    assert client.post("/rule").status_code == 503
    assert len(runs) == 10
    assert size() == 10


def test_a_request_within_a_request_does_not_undo_that_the_outer_one_has_committed(app, client) -> None:
    runs = []
    app.add_url_rule("/inner", view_func=lambda: "")

    @app.post("/rule")
    def view():
        runs.append(1)
        session.add(Thing(name=f"box {len(runs)}"))
        session.commit()
        app.test_client().get("/inner")
        raise OperationalError("", {}, sqlite_busy())

    assert client.post("/rule").status_code == 503
    assert names() == ["box 1"]


def test_a_request_that_fails_after_its_commit_forbids_the_repetition_of_the_one_around_it(app, client) -> None:
    runs = []

    @app.post("/inner")
    def inner():
        session.add(Thing(name="inner"))
        session.commit()
        raise LookupError

    @app.post("/rule")
    def view():
        runs.append(1)
        with suppress(LookupError):
            app.test_client().post("/inner")
        raise OperationalError("", {}, sqlite_busy())

    app.testing = True
    assert client.post("/rule").status_code == 503
    assert names() == ["inner"]


def test_a_body_that_commits_forbids_the_repetition_of_the_request_that_reads_it(app, client) -> None:
    @app.get("/inner")
    def inner():
        def body():
            with transaction():
                Thing(name="inner").save()
            yield "done"

        return Response(stream_with_context(body()))

    @app.post("/rule")
    def view():
        app.test_client().get("/inner").get_data()
        raise OperationalError("", {}, sqlite_busy())

    assert client.post("/rule").status_code == 503
    assert names() == ["inner"]


@pytest.mark.parametrize("error", [IntegrityError("", {}, Exception("taken")), ValueError()])
def test_what_follows_a_conflict_is_repeated_only_if_it_may_come_from_it(app, client, error) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        request.environ["app.attempt"].lost_in = {"lost": None} if len(runs) == 1 else None
        raise error

    client.post("/rule")

    assert len(runs) == (2 if isinstance(error, IntegrityError) else 1)


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite has one writer")
def test_the_savepoint_of_another_connection_settles_no_conflict(app, client) -> None:
    runs, meet = [], conflict_once()

    @app.post("/rule")
    def view():
        runs.append(1)
        before = Thing(name="before").save()
        if len(runs) == 1:
            with suppress(SQLAlchemyError):
                by_core(meet)
            with Session(engine) as other:
                other.begin_nested().rollback()
                other.scalar(select(Thing.size))
                other.begin_nested().rollback()
            session.refresh(before)
        return ""

    assert client.post("/rule").status_code == 200
    assert len(runs) == 2
    assert names() == ["before"]


def test_the_next_attempt_has_lost_nothing_yet(app, client) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        if len(runs) == 1:
            request.environ["app.attempt"].lost_in = {"lost": None}
            raise OperationalError("", {}, sqlite_busy())
        raise IntegrityError("", {}, Exception("taken"))

    client.post("/rule")

    assert len(runs) == 2


def test_each_attempt_has_an_environ_of_its_own(app, client) -> None:
    seen = []

    @app.post("/rule")
    def view():
        seen.append("app.noted" in request.environ)
        request.environ["app.noted"] = True
        if len(seen) < 3:
            raise OperationalError("", {}, sqlite_busy())
        return ""

    assert client.post("/rule").status_code == 200
    assert seen == [False] * 3


@pytest.mark.parametrize("sign", [{"wsgi.input_terminated": True}, {"HTTP_TRANSFER_ENCODING": "chunked"}])
def test_a_body_is_kept_for_the_next_attempt_by_whatever_sign_the_server_gives(app, client, sign) -> None:
    seen = []

    @app.post("/rule")
    def view():
        seen.append(request.environ["wsgi.input"].read(4))
        if len(seen) == 1:
            raise OperationalError("", {}, sqlite_busy())
        return ""

    environ = {"CONTENT_LENGTH": "", "wsgi.input_terminated": "", **sign}
    assert client.post("/rule", input_stream=io.BytesIO(b"body"), environ_overrides=environ).status_code == 200
    assert seen == [b"body", b"body"]


def test_the_end_of_a_savepoint_is_no_commit_that_forbids_a_repetition(app, client) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        with session.begin_nested():
            session.execute(text("UPDATE things SET size = size + 1"))
        if len(runs) == 1:
            raise OperationalError("", {}, sqlite_busy())
        return ""

    assert client.post("/rule").status_code == 200
    assert size() == 1


def test_a_change_to_what_the_client_has_not_seen_is_not_repeated(app, client) -> None:
    runs = []
    with Session(engine) as own:
        own.add(Page(text="first"))
        own.commit()

    @app.post("/rule")
    def view():
        runs.append(1)
        session.get(Page, 1).update(version=99, text="second")
        return ""

    assert client.post("/rule").status_code == 409
    assert len(runs) == 1


@pytest.mark.skipif(engine.name != "postgresql", reason="for PostgreSQL")
def test_a_table_that_a_repeated_request_locks_is_not_locked_for_long() -> None:
    with engine.begin() as connection:
        lock_first(connection, OperationalError("UPDATE things SET size = 1", {}, Exception()))
        locked = connection.scalars(text("SELECT mode FROM pg_locks WHERE relation = 'things'::regclass")).all()

        assert locked == ["ExclusiveLock"]
        assert connection.scalar(text("SHOW idle_in_transaction_session_timeout")) == "20s"
