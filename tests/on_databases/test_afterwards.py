"""What comes after the commit, or after one that failed: callbacks, listeners, bodies, hooks, copied contexts."""

import asyncio
import contextvars
import gc
import io
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from app.db import engine, session, session_factory
from app.transactions import on_commit, transaction
from flask import Response, abort, got_request_exception, redirect, send_file
from flask import session as client_session
from flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from rules.conftest import Thing, kill, names
from sqlalchemy import event, func, insert, inspect, select, text
from sqlalchemy.exc import OperationalError, ResourceClosedError


def fail_once() -> None:
    """Let the first commit of the session fail with an error that no handler takes."""

    def fail(_session) -> None:
        if not failed:
            failed.append(1)
            raise ValueError

    failed: list[int] = []
    event.listen(session(), "before_commit", fail)


@pytest.mark.parametrize("where", ["response", "commit in the view", "body", "script"])
@pytest.mark.usefixtures("impatient")
def test_a_callback_may_read_an_object_of_the_request_before_another_one_writes(app, client, where) -> None:
    sent = []

    def queue() -> None:
        with transaction():
            Thing(name="job").save()

    def work() -> None:
        thing = Thing(name="box").save()
        on_commit(lambda: sent.append(thing.name))
        on_commit(queue)

    def body():
        with transaction():
            work()
        yield ""

    @app.post("/rule")
    def view():
        if where == "body":
            session.scalars(select(Thing)).all()
            return Response(body())
        work()
        if where == "commit in the view":
            session.commit()
        return ""

    if where == "script":
        session.scalars(select(Thing)).all()
        with transaction():
            work()
        assert not session().in_transaction()  # the next one is to see what others have written
        session.remove()
    else:
        client.post("/rule").get_data()

    assert sent == ["box"]
    assert names() == ["box", "job"]


@pytest.mark.parametrize("error", [asyncio.CancelledError, SystemExit])
def test_the_other_callbacks_are_called_whatever_one_raises(app, client, caplog, error) -> None:
    called = []

    def leave() -> None:
        raise error

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        on_commit(leave)
        on_commit(lambda: called.append("second"))
        on_commit(lambda: called.append("third"))
        return ""

    if error is SystemExit:
        with pytest.raises(SystemExit):
            client.post("/rule")
    else:
        assert client.post("/rule").status_code == 200
        assert "a callback of on_commit failed" in caplog.text

    assert called == ["second", "third"]
    assert names() == ["box"]


def test_a_callback_may_be_asynchronous(app, client) -> None:
    called = []

    async def callback() -> None:
        called.append(names())

    @app.post("/rule")
    async def view():
        Thing(name="box").save()
        on_commit(callback)
        return ""

    client.post("/rule")

    assert called == [["box"]]
    with pytest.raises(TypeError, match=r"callback\(\) is asynchronous: enter app.app_context\(\)"):
        on_commit(callback)


@pytest.mark.parametrize("where", ["request", "block"])
def test_what_a_listener_of_the_commit_raises_takes_nothing_back(app, client, where) -> None:
    called = []

    def fail(_session) -> None:
        raise ValueError("the search is away")

    def work():
        Thing(name="box").save()
        on_commit(lambda: called.append(names()))
        return ""

    app.add_url_rule("/rule", view_func=work, methods=["POST"])
    event.listen(session_factory, "after_commit", fail)
    try:
        if where == "request":
            assert client.post("/rule").status_code == 500
        else:
            with pytest.raises(ValueError, match="the search is away"), transaction():
                work()
    finally:
        event.remove(session_factory, "after_commit", fail)

    assert called == [["box"]]


FIRST_LISTENER = """
import sys
from types import ModuleType

sys.modules["app"] = ModuleType("app")
sys.modules["app"].__path__ = ["app"]  # without what app/__init__.py imports, after app/models.py

from app.db import session, session_factory
from flask import Flask
from sqlalchemy import event, text
from sqlalchemy.orm.exc import StaleDataError

def fail(_session):
    raise StaleDataError("of the listener, not of the request")

event.listen(session_factory, "after_commit", fail)
from app import transactions

app = Flask("app")
transactions.init_app(app)
session.init_app(app)

@app.post("/")
def view():
    print("run")
    session.execute(text("SELECT 1"))
    transactions.on_commit(lambda: print("called"))
    return ""

print(app.test_client().post("/").status_code)
"""


def test_so_it_is_with_a_listener_that_was_there_first() -> None:
    told = subprocess.run([sys.executable, "-c", FIRST_LISTENER], capture_output=True, text=True, check=False)

    assert told.stdout.splitlines() == ["run", "called", "500"]


@pytest.mark.skipif(engine.name == "sqlite", reason="nobody ends its connections")
@pytest.mark.parametrize("where", ["response", "block", "script"])
def test_a_connection_that_is_lost_after_the_commit_changes_nothing(app, client, caplog, where) -> None:
    sent = []

    def mail(thing) -> None:
        sent.append(thing.name)  # which reads it again
        kill(inspect(thing).session.connection())

    @app.post("/rule")
    def work():
        thing = Thing(name="box").save()
        on_commit(lambda: mail(thing))
        return ""

    if where == "response":
        assert client.post("/rule").status_code == 200
    elif where == "block":
        with transaction():
            work()
    else:
        work()
        session.commit()
    assert not session().in_transaction()

    (told,) = [record for record in caplog.records if record.message == "the connection was lost after the commit"]
    assert told.exc_info
    assert sent == names() == ["box"]
    assert engine.pool.checkedout() == 0


@pytest.mark.parametrize("closes", [False, True], ids=["", "with work at its close"])
@pytest.mark.parametrize("change", [False, True], ids=["reads", "changes"])
def test_what_a_callback_does_to_an_object_is_not_lost_with_a_file(app, client, caplog, change, closes) -> None:
    @app.get("/rule")
    def view():
        thing = session.get_one(Thing, 1)
        on_commit(lambda: setattr(thing, "size", 9) if change else thing.name)
        response = send_file(io.BytesIO(b"x"), mimetype="text/plain")
        if closes:  # which Werkzeug does for HEAD alone
            response.call_on_close(lambda: None)
        return response

    gc.disable()
    try:
        client.get("/rule").close()
        left_open = engine.pool.checkedout()
    finally:
        gc.enable()

    assert left_open == 0
    assert ("Discarded what nobody has committed: an unsaved Thing." in caplog.messages) is change


def test_a_body_that_is_made_later_may_have_a_length(app, client) -> None:
    class Body:
        def __len__(self) -> int:
            return 1

        def __iter__(self):
            yield str(session.scalar(select(func.count(Thing.id))))

    app.add_url_rule("/rule", view_func=lambda: Response(Body()))

    assert client.get("/rule").text == "1"
    assert engine.pool.checkedout() == 0


def test_a_body_that_is_there_keeps_its_length_although_there_is_work_at_its_close(app, client) -> None:
    @app.get("/rule")
    def view():
        response = Response(["box"])
        response.call_on_close(lambda: None)
        return response

    assert client.get("/rule").content_length == 3


@pytest.mark.parametrize("status", [200, 400])
def test_a_result_that_a_view_has_begun_to_read_does_not_end_in_silence(app, client, status) -> None:
    with transaction() as current:
        current.add_all(Thing(name=f"{number}") for number in range(100))

    @app.get("/rule")
    def view():
        found = session.execute(select(Thing.name).execution_options(yield_per=10))
        next(found)
        kept.append(found)
        return Response((f"{thing.name} " for thing in found), status)

    kept = []

    if engine.name == "sqlite":
        assert len(client.get("/rule").text.split()) == 100
    else:
        with pytest.raises(ResourceClosedError):
            client.get("/rule").get_data()
    kept[0].close()


def test_a_result_that_a_view_has_not_read_to_its_end_harms_nobody(app, client) -> None:
    with transaction() as current:
        current.add_all(Thing(name=f"{number}") for number in range(100))

    @app.post("/rule")
    def view():
        kept.append(session.execute(select(Thing.name).execution_options(yield_per=10)))
        kept[-1].fetchmany(5)
        return Thing(name="box").save().name

    kept = []
    assert client.post("/rule").status_code == 200

    kept[0].close()
    assert names().count("box") == 1


def test_a_loop_that_reads_and_writes_is_whole_or_fails() -> None:
    with transaction() as current:
        current.add_all(Thing(name=f"{number}") for number in range(100))

    with suppress(ResourceClosedError), transaction():
        for thing in session.scalars(select(Thing).execution_options(yield_per=10)):
            thing.update(size=7)
    session.remove()

    assert session.scalar(select(func.sum(Thing.size))) == (0 if engine.name in ("mysql", "mariadb") else 7 * 101)


@pytest.mark.parametrize("kind", ["reads", "writes", "writes in a task"])
def test_work_in_a_copy_of_a_context_that_is_over_ends_with_it(app, client, caplog, monkeypatch, kind) -> None:
    over, raised = threading.Event(), []
    monkeypatch.setattr(sys, "unraisablehook", lambda shown: raised.append(str(shown.exc_value)))
    app.testing = True

    async def work_in_task() -> None:
        Thing(name="late").save()

    def work() -> None:
        over.wait(10)
        if kind == "writes in a task":
            asyncio.run(work_in_task())
        elif kind == "reads":
            session.scalars(select(Thing)).all()
        else:
            Thing(name="late").save()

    def work_well() -> None:
        with transaction():
            Thing(name="box").save()

    @app.get("/rule/<name>")
    def view(name):
        jobs.append(pool.submit(contextvars.copy_context().run, {"first": work, "second": work_well}[name]))
        return ""

    jobs: list = []
    with ThreadPoolExecutor(1) as pool:  # its thread stays
        client.get("/rule/first")
        over.set()
        jobs[0].result(10)
        client.get("/rule/second")
        jobs[1].result(10)
        pool.submit(int).result(10)
        assert engine.pool.checkedout() == 0

    assert names() == ["box"]
    lost = [] if kind == "reads" else ["Discarded what nobody has committed: INSERT INTO things."]
    assert [told for told in caplog.messages if "Discarded" in told] == lost
    assert raised == lost


def test_a_page_for_500_that_forgets_its_status_commits_nothing_and_gets_its_headers(app, client) -> None:
    called, pages, streamed = [], [], []

    @app.after_request
    def allow(response):
        streamed.append(response.is_streamed)
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    @app.errorhandler(500)
    def page(_error):
        pages.append(1)
        with transaction():
            Thing(name=f"page {len(pages)}").save()
        on_commit(lambda: called.append(len(pages)))
        return "Sorry"

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        fail_once()
        return redirect("/")

    response = client.post("/rule")

    assert response.status_code == 500
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert not any(streamed)  # nothing is left to the garbage collector
    assert called == []
    assert names() == []


@pytest.mark.parametrize("propagate", [False, True])
def test_a_commit_that_fails_is_signalled_once(app, client, propagate) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = propagate
    received = []

    def receive(_sender, exception) -> None:
        received.append(exception)

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        fail_once()
        return ""

    with got_request_exception.connected_to(receive, app), suppress(ValueError):
        client.post("/rule")

    assert [type(error) for error in received] == [ValueError]
    assert names() == []


def test_a_handler_of_409_decides_about_a_value_that_is_taken(app, client) -> None:
    app.register_error_handler(409, lambda _: redirect("/taken"))

    @app.post("/rule")
    def view():
        Thing(name="attempt").save()
        Thing(name="counter").save()
        return ""

    assert client.post("/rule").location == "/taken"
    assert names() == ["attempt"]


def test_what_follows_a_response_follows_it_when_it_is_aborted_with_too(app, client) -> None:
    closed = []

    @app.post("/rule")
    def view():
        response = Response("box")
        response.call_on_close(lambda: closed.append(1))
        abort(response)

    client.post("/rule").close()

    assert closed == [1]


def test_a_session_of_the_client_may_hold_what_has_no_copy(app, client) -> None:
    lock = threading.Lock()
    store = {"lock": lock}

    class Held(dict, SessionMixin):
        pass

    class Interface(SessionInterface):
        def open_session(self, _app, _request):
            return Held(store)

        def save_session(self, _app, held, _response) -> None:
            store.clear()
            store.update(held)

    @app.post("/rule")
    def view():
        client_session["saved"] = True
        session.add(Thing(id=1, name="twice", size=0))
        return ""

    app.session_interface = Interface()

    assert client.post("/rule").status_code == 409
    assert store == {"lock": lock}


def test_a_client_without_a_session_is_told_of_a_failed_commit(app, client) -> None:
    class Interface(SessionInterface):
        def open_session(self, _app, _request):
            return None

    @app.post("/rule")
    def view():
        session.add(Thing(id=1, name="twice", size=0))
        return ""

    app.session_interface = Interface()

    assert client.post("/rule").status_code == 409


def test_a_server_side_session_that_cannot_be_opened_is_answered(app, client) -> None:
    class Interface(SessionInterface):
        def open_session(self, _app, _request):
            raise LookupError

    app.session_interface = Interface()
    app.register_error_handler(500, lambda _: ("no store", 500))

    assert client.get("/rule").text == "no store"


@pytest.mark.parametrize("statement", ["ROLLBACK", "rollback work;"])
def test_a_rollback_that_is_sent_as_text_forgets_what_was_to_follow(app, client, statement) -> None:
    called = []

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        on_commit(lambda: called.append(1))
        session.execute(text(statement))
        return ""

    client.post("/rule")

    assert called == []
    assert names() == []


def test_objects_that_a_view_has_read_stay_as_they_are_if_the_session_says_so(app, client) -> None:
    statements: list[str] = []

    @app.get("/rule")
    def view():
        session().expire_on_commit = False
        things = session.scalars(select(Thing)).all()
        event.listen(engine, "before_cursor_execute", note)
        return Response(thing.name for thing in things)

    def note(_connection, _cursor, statement, *_more) -> None:
        statements.append(statement)

    try:
        assert client.get("/rule").text == "counter"
    finally:
        event.remove(engine, "before_cursor_execute", note)
    assert statements == []


@pytest.mark.skipif(engine.name == "sqlite", reason="it has no transactions in two phases")
def test_a_transaction_in_two_phases_may_be_used_by_hand() -> None:
    engine.dispose()  # nothing is known yet of a new connection
    with engine.connect() as connection:
        transaction_in_two_phases = connection.begin_twophase()
        connection.execute(text("INSERT INTO things (name, size) VALUES ('box', 0)"))
        transaction_in_two_phases.commit()

    assert names() == ["box"]


@pytest.mark.skipif(engine.dialect.name not in ("mysql", "mariadb"), reason="PostgreSQL has to be told to allow it")
def test_a_session_in_two_phases_commits_in_both(app, client) -> None:
    phases: list[str] = []

    @app.post("/rule")
    def view():
        session().twophase = True
        session.execute(insert(Thing).values(name="two"))
        return ""

    listeners = {
        "prepare_twophase": lambda _connection, _xid: phases.append("prepare"),
        "commit_twophase": lambda _connection, _xid, is_prepared: phases.append(f"commit {is_prepared}"),
    }
    for name, listener in listeners.items():
        event.listen(engine, name, listener)
    try:
        assert client.post("/rule").status_code == 200
    finally:
        for name, listener in listeners.items():
            event.remove(engine, name, listener)
    assert phases == ["prepare", "commit True"]
    assert names() == ["two"]


@pytest.mark.parametrize("where", ["hook", "client's session"])
@pytest.mark.parametrize("propagate", [False, True])
def test_a_conflict_that_comes_after_the_handlers_is_answered_like_any_other(app, client, where, propagate) -> None:
    app.config |= {"TRANSACTION_ATTEMPTS": 2, "PROPAGATE_EXCEPTIONS": propagate}
    runs = []

    def lose(*_) -> None:
        raise OperationalError("", {}, busy)

    busy = sqlite3.OperationalError()
    busy.sqlite_errorname = "SQLITE_BUSY"
    if where == "hook":
        app.after_request(lose)
    else:
        app.session_interface = SecureCookieSessionInterface()
        app.session_interface.save_session = lose

    @app.post("/rule")
    def view():
        runs.append(Thing(name="box").save().name)
        return ""

    response = client.post("/rule")

    assert (response.status_code, "Retry-After" in response.headers) == (503, True)
    assert runs == ["box", "box"]
    assert names() == []


@pytest.mark.skipif(engine.name != "postgresql", reason="only there they are part of a transaction")
@pytest.mark.parametrize(
    "sql",
    [
        "COMMENT ON TABLE things IS 'boxes'",
        "GRANT SELECT ON things TO PUBLIC",
        "REVOKE SELECT ON things FROM PUBLIC",
        "NOTIFY things",
        "DO $$ BEGIN DELETE FROM things; END $$",
        "TRUNCATE parts",
        "COPY things (name, size) FROM '/dev/null'",
        "MERGE INTO things USING (SELECT 1) AS one ON FALSE WHEN NOT MATCHED THEN INSERT (name, size) VALUES ('x', 1)",
    ],
)
def test_each_statement_that_writes_is_reported(app, caplog, sql) -> None:
    with app.app_context():
        session.execute(text(sql))

    assert f"Discarded what nobody has committed: {sql.split()[0]}" in caplog.text


@pytest.mark.skipif(engine.name != "postgresql", reason="only there they exist")
def test_a_view_that_was_refreshed_is_reported(app, caplog) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE MATERIALIZED VIEW sizes AS SELECT size FROM things"))
    try:
        with app.app_context():
            session.execute(text("REFRESH MATERIALIZED VIEW sizes"))
    finally:
        with engine.begin() as connection:
            connection.execute(text("DROP MATERIALIZED VIEW sizes"))

    assert "Discarded what nobody has committed: REFRESH MATERIALIZED VIEW." in caplog.text
