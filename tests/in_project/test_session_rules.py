"""What a session belongs to and when it ends, in the corners."""

import asyncio
import contextvars
import gc
import logging
import threading
import weakref
from contextlib import suppress

import pytest
from app.db import current_session, engine, session, session_factory
from app.scopes import current_scope
from app.transactions import set_rollback
from flask import Response, copy_current_request_context, request, send_file, stream_with_context
from sqlalchemy import event, inspect, select, text
from sqlalchemy.exc import IntegrityError
from tests.things import Part, Thing
from werkzeug.wsgi import FileWrapper

ENVIRON = {
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/stream",
    "SERVER_NAME": "x",
    "SERVER_PORT": "1",
    "wsgi.url_scheme": "http",
}

pytestmark = pytest.mark.usefixtures("things")


def in_thread(function):
    """Run a function in a thread and return its result."""
    results = []
    thread = threading.Thread(target=lambda: results.append(function()))
    thread.start()
    thread.join()
    return results[0]


def test_the_session_of_an_abandoned_context_is_forgotten(app) -> None:
    def abandon():
        app.app_context().push()
        session.execute(text("SELECT 1"))
        return weakref.ref(session())

    found = in_thread(abandon)
    gc.collect()  # the context, and with it the last reference to the session
    gc.collect()  # the session, which is part of a cycle

    assert found() is None
    assert engine.pool.checkedout() == 0


def test_the_session_of_a_thread_is_forgotten_with_it() -> None:
    found = in_thread(lambda: weakref.ref(session()))
    gc.collect()

    assert found() is None


@pytest.mark.parametrize("hook", ["teardown_request", "teardown_appcontext"])
def test_a_session_is_removed_when_a_teardown_raises(app, client, hook) -> None:
    contexts = []

    @app.get("/")
    def view():
        contexts.append(current_scope())
        session.execute(text("SELECT 1"))
        return ""

    app.view_functions["pages.index"] = view

    @getattr(app, hook)
    def fail(_error):
        raise LookupError

    with pytest.raises(LookupError) as raised:
        client.get("/")
    assert engine.pool.checkedout() == 0
    assert contexts
    assert raised


def test_a_session_is_removed_when_the_teardown_of_an_application_context_raises(app) -> None:
    @app.teardown_appcontext
    def fail(_error):
        raise LookupError

    context = app.app_context()
    with pytest.raises(LookupError) as raised, context:
        session.execute(text("SELECT 1"))

    assert raised
    assert engine.pool.checkedout() == 0


def test_a_request_does_not_use_the_session_of_a_context_around_it(app, client) -> None:
    found = []

    @app.get("/session")
    def view():
        found.append(session())
        return ""

    with app.app_context():
        outer = session()
        client.get("/session")
        client.get("/session")
        assert session() is outer

    assert len({outer, *found}) == 3


def test_a_request_within_a_request_has_a_session_of_its_own(app, client) -> None:
    found = []

    @app.get("/inner")
    def inner():
        found.append(session())
        return ""

    @app.get("/outer")
    def outer():
        found.append(session())
        app.test_client().get("/inner")
        with app.app_context():
            found.append(session())
            app.test_client().get("/inner")
            found.append(session())
        found.append(session())
        return ""

    client.get("/outer")

    before, within, nested, within_nested, nested_still, after = found
    assert (before, nested) == (after, nested_still)
    assert len({before, within, nested, within_nested}) == 4


def test_a_nested_context_loses_and_disturbs_nothing(app, client) -> None:
    @app.post("/nested")
    def view():
        Thing(name="outer").save()
        with app.app_context():
            assert session.scalars(select(Thing)).all() == []
            session.add(Thing(name="inner"))
        assert [thing.name for thing in Thing.query] == ["outer"]
        return ""

    assert client.post("/nested").status_code == 200
    assert [thing.name for thing in Thing.query] == ["outer"]


def test_an_async_view_shares_the_session_of_its_request(app, client) -> None:
    found = []

    @app.before_request
    def note():
        found.append(session())

    @app.post("/async")
    async def view():
        await asyncio.sleep(0)
        found.append(session())
        Thing(name="async").save()
        return ""

    client.post("/async")

    assert found[0] is found[1]
    assert [thing.name for thing in Thing.query] == ["async"]


def test_tasks_outside_a_context_do_not_share_what_their_parent_has() -> None:
    async def note():
        return session()

    async def parent():
        return [session(), *await asyncio.gather(note(), note())]

    assert len(set(asyncio.run(parent()))) == 3


def test_a_thread_with_a_copied_context_has_a_session_of_its_own(app, client) -> None:
    found = []

    @app.get("/copied")
    def view():
        found.append(session())
        in_thread(copy_current_request_context(lambda: found.append(session())))
        return ""

    client.get("/copied")

    assert found[0] is not found[1]


def test_threads_do_not_share_the_session_of_a_copy_of_a_context_that_is_over(app, client) -> None:
    copies = []

    @app.get("/copied")
    def view():
        copies.append(contextvars.copy_context())
        return ""

    client.get("/copied")
    found = copies[0].run(session)

    assert copies[0].run(session) is found
    assert in_thread(lambda: copies[0].run(session)) is not found


@pytest.mark.parametrize("passed_on", [False, True])
def test_a_stream_keeps_the_objects_of_its_view(app, client, passed_on) -> None:
    thing = Thing(name="box").save()
    Part(thing=thing).save()

    @app.get("/parts")
    def view():
        box = session.scalars(select(Thing)).one()
        kept = session()

        def body():
            assert session() is kept
            yield f"{box.name} has {len(box.parts)} part".encode()

        return Response(body(), direct_passthrough=passed_on)

    assert b"".join(client.get("/parts").iter_encoded()) == b"box has 1 part"
    assert engine.pool.checkedout() == 0


def test_a_stream_in_its_context_has_a_session_that_ends(app, client) -> None:
    @app.get("/stream")
    def view():
        @stream_with_context
        def body():
            yield request.path
            yield "".join(thing.name for thing in Thing.query)

        return Response(body())

    Thing(name="box").save()
    assert client.get("/stream").text == "/streambox"
    assert engine.pool.checkedout() == 0


@pytest.mark.parametrize("written", [False, True])
def test_an_abandoned_stream_in_its_context_leaves_nothing_open(app, caplog, written) -> None:
    app.testing = False

    @app.get("/stream")
    def view():
        @stream_with_context
        def body():
            while True:
                Thing(name="x").save() if written else Thing.query.all()
                session.rollback() if not written else None
                Thing.query.all()
                yield request.path

        return Response(body())

    body = app(ENVIRON, lambda *_: None)
    pieces = iter(body)
    assert next(pieces) == b"/stream"
    body.close()

    assert engine.pool.checkedout() == 0
    assert ("Discarded" in caplog.text) is written


def test_a_stream_in_its_context_keeps_one_session_from_piece_to_piece(app, client) -> None:
    @app.get("/stream")
    def view():
        @stream_with_context
        def body():
            Thing(name="box").save()
            yield "0"
            session.commit()
            yield "1"

        return Response(body())

    assert client.get("/stream").text == "01"
    assert [thing.name for thing in Thing.query] == ["box"]


@pytest.mark.parametrize("streamed", [False, True])
def test_what_is_done_when_a_response_is_closed_is_reported(app, caplog, streamed) -> None:
    app.testing = False

    @app.post("/close")
    def view():
        response = Response(iter(["x"]) if streamed else "x")
        response.call_on_close(lambda: Thing(name="late").save())
        return response

    app(ENVIRON | {"REQUEST_METHOD": "POST", "PATH_INFO": "/close"}, lambda *_: None).close()

    assert "INSERT INTO things" in caplog.text
    assert engine.pool.checkedout() == 0


@pytest.mark.parametrize("after_error", [False, True])
@pytest.mark.parametrize("hook", ["teardown_request", "teardown_appcontext"])
def test_a_teardown_that_writes_is_reported_whatever_went_before(app, client, hook, after_error) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.get("/write")
    def view():
        if after_error:
            raise LookupError
        return ""

    @getattr(app, hook)
    def write(_error):
        Thing(name="late").save()

    with pytest.raises(RuntimeError, match="INSERT INTO things"):
        client.get("/write")


def test_a_context_that_is_used_again_within_a_request_is_nested_in_it(app, client) -> None:
    context = app.app_context()
    with context:
        session()
    found = []

    @app.get("/again")
    def view():
        found.append(session())
        with context:
            found.append(session())
        found.append(session())
        return ""

    client.get("/again")

    assert found[0] is found[2]
    assert found[0] is not found[1]


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_context_of_a_request_that_nobody_sent_has_a_session(app, method) -> None:
    with app.test_request_context("/", method=method):
        assert session.scalars(select(Thing)).all() == []


def test_a_converter_that_reads_takes_the_write_lock_of_its_post(app, client) -> None:
    from werkzeug.routing import BaseConverter

    sent = []
    event.listen(engine, "checkout", lambda connection, *_: connection.set_trace_callback(sent.append))

    class Known(BaseConverter):
        def to_python(self, value):
            return session.get_one(Thing, int(value))

    app.url_map.converters["thing"] = Known
    Thing(name="box").save()
    app.add_url_rule("/<thing:thing>", view_func=lambda thing: thing.name, endpoint="thing", methods=["POST"])

    assert client.post("/1").text == "box"
    assert [statement for statement in sent if statement.startswith("BEGIN")] == ["BEGIN DEFERRED", "BEGIN IMMEDIATE"]


def test_autocommit_is_what_it_says() -> None:
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("INSERT INTO things (name, size) VALUES ('box', 1)"))
        connection.execute(text("VACUUM"))

    assert [thing.name for thing in Thing.query] == ["box"]


def test_a_statement_cannot_leave_its_transaction() -> None:
    session.execute(text("CREATE TABLE box (id INTEGER)"), execution_options={"isolation_level": "AUTOCOMMIT"})
    session.rollback()

    assert not inspect(engine).has_table("box")


def test_a_stream_that_its_own_request_reads_keeps_the_scope(app, client) -> None:
    found = []

    @app.get("/read")
    def view():
        found.append(session())
        response = Response(stream_with_context(str(found.append(session())) for _ in range(1)))
        response.get_data()
        found.append(session())
        return response

    client.get("/read")

    assert len(set(found)) == 1


def test_a_context_within_a_stream_has_a_session_of_its_own(app, client) -> None:
    found = []

    @app.get("/stream")
    def view():
        def body():
            found.append(session())
            with app.app_context():
                found.append(session())
            found.append(session())
            yield ""

        return Response(body())

    client.get("/stream").get_data()

    assert found[0] is found[2]
    assert found[0] is not found[1]


def test_a_context_that_a_stream_keeps_open_has_one_session_from_piece_to_piece(app, client) -> None:
    around, found = [], []

    @app.get("/stream")
    def view():
        def body():
            around.append(session())
            with app.app_context():
                found.append(session())
                yield "a"
                found.append(session())
                yield "b"
            around.append(session())

        return Response(body())

    assert client.get("/stream").text == "ab"

    assert around[0] is around[1]
    assert found[0] is found[1]
    assert around[0] is not found[0]


@pytest.mark.parametrize("pieces", [0, 1])
def test_an_abandoned_stream_leaves_nothing_open(app, client, pieces) -> None:
    closed = []

    class Body:
        def __iter__(self):
            return self

        def __next__(self):
            session.execute(text("SELECT 1"))
            return "piece"

        def close(self):
            closed.append(True)

    @app.get("/stream")
    def view():
        return Response(Body())

    body = app(ENVIRON, lambda *_: None)
    for _ in range(pieces):
        next(iter(body))
    body.close()

    assert closed == [True]
    assert engine.pool.checkedout() == 0


def test_an_abandoned_stream_that_has_written_is_reported(app, client, caplog) -> None:
    @app.get("/stream")
    def view():
        def body():
            while True:
                Thing(name="lost").save()
                yield "piece"

        return Response(body())

    body = app(ENVIRON, lambda *_: None)
    next(iter(body))
    with pytest.raises(RuntimeError, match="INSERT INTO things"):
        body.close()

    assert "INSERT INTO things" in caplog.text
    assert engine.pool.checkedout() == 0


def test_a_stream_that_nobody_closes_ends_with_the_last_reference_to_it(app, caplog) -> None:
    @app.get("/stream")
    def view():
        def body():
            Thing(name="lost").save()
            yield "piece"
            yield "piece"

        return Response(body())

    app.testing = False  # nobody could take the error
    gc.disable()
    try:
        body = app(ENVIRON, lambda *_: None)
        next(iter(body))
        del body

        assert "INSERT INTO things" in caplog.text
        assert engine.pool.checkedout() == 0
    finally:
        gc.enable()


def test_a_stream_that_fails_rolls_back_and_says_why_once(app, client, caplog) -> None:
    @app.get("/stream")
    def view():
        def body():
            Thing(name="lost").save()
            yield "piece"
            raise LookupError

        return Response(body())

    with pytest.raises(LookupError):
        client.get("/stream").get_data()

    assert "Discarded" not in caplog.text
    assert engine.pool.checkedout() == 0
    assert Thing.query.count() == 0


def test_a_savepoint_that_a_view_has_left_open_ends_before_its_stream(app, client) -> None:
    @app.get("/stream")
    def view():
        session.begin_nested()
        return Response(str(session().in_nested_transaction()) for _ in "x")

    assert client.get("/stream").text == "False"


def test_a_stream_of_a_post_does_not_hold_the_write_lock(app, client) -> None:
    @app.post("/stream")
    def view():
        Thing(name="box").save()

        def body():
            yield str(Thing.query.count())
            with session_factory.begin() as other:
                other.add(Thing(name="meanwhile"))
            yield str(Thing.query.count())

        return Response(body())

    assert client.post("/stream").text == "11"
    assert Thing.query.count() == 2


def test_a_file_is_sent_as_the_server_likes(app) -> None:
    app.add_url_rule("/file", view_func=lambda: send_file(__file__))

    class Wrapper(FileWrapper):
        """What a server gives to send files its own way."""

    body = app(ENVIRON | {"PATH_INFO": "/file", "wsgi.file_wrapper": Wrapper}, lambda *_: None)

    assert type(body) is Wrapper
    body.close()


def test_a_test_request_context_that_is_left_raises_nothing(app, caplog) -> None:
    with app.test_request_context():
        session.add(Thing(name="lost"))

    assert "Discarded what nobody has committed: an unsaved Thing." in caplog.text


def test_an_object_that_was_set_to_what_it_was_is_no_lost_work(app, client) -> None:
    Thing(name="box").save()

    @app.get("/same")
    def view():
        def body():
            thing = session.scalars(select(Thing)).one()
            thing.name = str(thing.name)
            yield thing.name

        return Response(body())

    assert client.get("/same").text == "box"


def test_a_committed_write_is_no_lost_work(app, client) -> None:
    @app.get("/committed")
    def view():
        def body():
            Thing(name="box").save()
            session.commit()
            session.execute(text("WITH names AS (SELECT name FROM things) SELECT name FROM names"))
            yield "done"

        return Response(body())

    assert client.get("/committed").text == "done"


@pytest.mark.parametrize(
    "sql",
    [
        "INSERT INTO things (name, size) VALUES ('x', 1)",
        " update things set size = 2",
        "DELETE FROM things",
        "WITH s AS (SELECT 2 AS size) INSERT INTO things (name, size) SELECT 'x', size FROM s",
        "CREATE TABLE more (id INTEGER)",
        "/* audit */ INSERT INTO things (name, size) VALUES ('x', 1)",
        "-- why\nDELETE FROM things",
    ],
)
def test_every_statement_that_writes_is_seen(app, client, sql) -> None:
    @app.get("/write")
    def view():
        def body():
            session.execute(text(sql))
            yield ""

        return Response(body())

    with pytest.raises(RuntimeError, match="Discarded"):
        client.get("/write").get_data()


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT 'DELETE FROM things'",
        "WITH x AS (SELECT 'please UPDATE me' AS a) SELECT a FROM x",
        'WITH x AS (SELECT 1 AS "update") SELECT "update" FROM x',
        "PRAGMA table_info(things)",
        "EXPLAIN DELETE FROM things",
    ],
)
def test_a_statement_that_reads_is_no_lost_work(app, client, sql) -> None:
    @app.get("/read")
    def view():
        return Response(str(session.execute(text(sql)).all()) for _ in range(1))

    assert client.get("/read").status_code == 200


def test_a_write_that_a_savepoint_took_back_is_no_lost_work(app, client) -> None:
    Thing(name="box").save()

    @app.get("/savepoint")
    def view():
        def body():
            session.execute(text("SELECT 1"))
            with session.begin_nested() as savepoint:
                Thing(name="bag").save()
                savepoint.rollback()
            with pytest.raises(IntegrityError):
                Thing(name="box").save()
            yield "done"

        return Response(body())

    assert client.get("/savepoint").text == "done"


@pytest.mark.parametrize("written", [True, False], ids=["written", "only read"])
def test_an_error_explains_what_is_lost_with_it(app, caplog, written) -> None:
    with caplog.at_level("DEBUG"), suppress(LookupError), app.app_context():
        Thing(name="lost").save() if written else session.scalar(select(Thing.id))
        raise LookupError

    assert ("rollback because of LookupError" in caplog.text) is written
    assert "Discarded" not in caplog.text


def test_what_tells_of_lost_work_may_look_at_it(app) -> None:
    class Handler(logging.Handler):
        def emit(self, _record):
            counted.append(Thing.query.count())

    counted: list[int] = []
    handler = Handler()
    app.logger.addHandler(handler)
    try:
        with app.app_context():
            Thing(name="lost").save()
    finally:
        app.logger.removeHandler(handler)

    assert counted == [1]
    assert engine.pool.checkedout() == 0


def test_what_went_before_a_savepoint_that_was_taken_back_is_lost_work(app, caplog) -> None:
    with app.app_context():
        Thing(name="box").save()
        with session.begin_nested() as savepoint:
            Thing(name="bag").save()
            savepoint.rollback()

    assert "Discarded what nobody has committed: INSERT INTO things." in caplog.text


def test_what_is_lost_is_said_once_and_without_its_savepoints(app, caplog) -> None:
    with app.app_context():
        for name in ("one", "two", "three"):
            Thing(name=name).save()

    assert "Discarded what nobody has committed: INSERT INTO things." in caplog.text


def test_a_thread_with_a_copied_context_of_a_post_can_read(app, client) -> None:
    @app.post("/copied")
    def view():
        Thing(name="box").save()
        return str(in_thread(copy_current_request_context(lambda: Thing.query.count())))

    assert client.post("/copied").text == "0"


def test_the_client_commits_what_the_test_has_saved_within_and_around_contexts(app, client) -> None:
    app.add_url_rule("/names", view_func=lambda: [thing.name for thing in Thing.query])
    Thing(name="around").save()
    with app.app_context():
        assert client.get("/names").json == ["around"]
        Thing(name="within").save()
        assert client.get("/names").json == ["around", "within"]


def test_no_response_decides_in_a_teardown_or_in_a_stream(app, client) -> None:
    said = []

    def try_to_decide():
        try:
            set_rollback(True)
        except RuntimeError as error:
            said.append(str(error))

    @app.get("/late")
    def view():
        def body():
            try_to_decide()
            yield ""

        return Response(body())

    app.teardown_request(lambda _error: try_to_decide())
    client.get("/late").get_data()

    assert len(said) == 2


def test_a_teardown_of_a_post_does_not_take_the_write_lock(app, client) -> None:
    @app.teardown_request
    def read(_error):
        session.scalars(select(Thing)).all()
        with session_factory.begin() as other:
            other.add(Thing(name="meanwhile"))

    app.add_url_rule("/post", view_func=lambda: "", methods=["POST"])
    client.post("/post")

    assert Thing.query.count() == 1


def test_a_session_made_by_hand_in_a_post_begins_deferred(app, client) -> None:
    @app.post("/post")
    def view():
        Thing(name="box").save()
        with session_factory() as other:
            return str(len(other.scalars(select(Thing)).all()))

    assert client.post("/post").text == "0"


def test_current_session_of_an_app_without_one_says_what_to_do() -> None:
    from flask import Flask

    with Flask("bare").app_context(), pytest.raises(RuntimeError, match=r"call session\.init_app\(app\)"):
        current_session.execute(text("SELECT 1"))
