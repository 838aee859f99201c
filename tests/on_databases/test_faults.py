"""What a hostile reader found once: each of these stored half, twice, or nothing, or kept a connection."""

import contextvars
import gc
import io
import os
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from weakref import ref

import pytest
from app.db import engine, session
from app.engines import make_engine
from app.transactions import on_commit, transaction
from flask import Response, abort, copy_current_request_context, g, redirect, request, stream_with_context
from rules.conftest import BACKEND, Thing, kill, kill_backend, names, size
from rules.test_conflicts import conflict_once, sqlite_busy
from sqlalchemy import event, insert, select, text, update
from sqlalchemy.exc import IntegrityError, OperationalError, PendingRollbackError, SQLAlchemyError
from sqlalchemy.orm import Session
from werkzeug.exceptions import InternalServerError

servers_only = pytest.mark.skipif(engine.name == "sqlite", reason="SQLite is no server")
mariadb_only = pytest.mark.skipif(engine.name != "mariadb", reason="MariaDB ends a transaction, and begins another")


def bump() -> None:
    """Change the counter by another connection."""
    with Session(engine) as other:
        other.execute(update(Thing).where(Thing.id == 1).values(size=Thing.size + 100))
        other.commit()


def lose_once(runs: list) -> None:
    """Lose a conflict in the first run."""
    runs.append(1)
    if len(runs) == 1:
        raise OperationalError("", {}, sqlite_busy())


@pytest.mark.parametrize("where", ["stream", "stream_with_context", "teardown"])
def test_an_object_that_a_view_has_only_read_is_read_again_in_the_next_transaction(app, client, where) -> None:
    def add() -> None:
        bump()
        with transaction():
            g.counter.size += 1

    @app.teardown_request
    def end(_error):
        if where == "teardown" and "counter" in g:
            add()

    @app.get("/rule")
    def view():
        counter = g.counter = session.get(Thing, 1)
        assert counter.name

        def pieces():
            yield "a"
            bump()
            with transaction():
                counter.size += 1

        if where == "teardown":
            return ""
        return Response(stream_with_context(pieces()) if where == "stream_with_context" else pieces())

    assert client.get("/rule").text in ("", "a")
    assert size() == 101


@mariadb_only
@pytest.mark.parametrize("how", ["savepoint", "an error after it", "an error before it"])
def test_a_swallowed_conflict_is_not_hidden_by_another_error(app, client, how) -> None:
    meet = conflict_once("GET")

    @app.get("/rule")
    def view():
        Thing(name="first").save()
        if how == "an error before it":
            with suppress(IntegrityError):
                session.execute(insert(Thing).values(name="counter", size=0))
        before = session.scalar(select(Thing.size).where(Thing.id == 1))
        meet()
        with suppress(SQLAlchemyError), transaction() if how == "savepoint" else nullcontext():
            session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
        if how == "an error after it":
            with suppress(IntegrityError):
                session.execute(insert(Thing).values(name="counter", size=0))
        Thing(name="second").save()
        return "ok"

    assert client.get("/rule").text == "ok"
    assert names() == ["first", "second"]
    assert size() == 101


@mariadb_only
def test_a_swallowed_conflict_fails_the_block_of_a_script() -> None:
    def work() -> None:
        with transaction():
            Thing(name="first").save()
            before = session.scalar(select(Thing.size).where(Thing.id == 1))
            bump()
            with suppress(SQLAlchemyError), session.begin_nested():
                session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
            Thing(name="second").save()

    with pytest.raises(OperationalError, match="1020"):
        work()
    assert names() == []


def test_the_body_of_a_500_handler_keeps_no_connection(app, client, caplog) -> None:
    @app.errorhandler(500)
    def answer(_error):
        def pieces():
            session.execute(insert(Thing).values(name="lost", size=0))
            yield "x"

        return Response(pieces(), 500)

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        raise LookupError

    @app.post("/next")
    def following():
        Thing(name="next").save()
        return ""

    assert client.post("/rule").text == "x"
    assert engine.pool.checkedout() == 0
    assert "Discarded what nobody has committed: INSERT INTO things" in caplog.text
    assert client.post("/next").status_code == 200
    assert names() == ["next"]


@servers_only
def test_an_unknown_commit_is_not_repeated_after_a_settled_conflict(app, client) -> None:
    runs = []

    @app.get("/rule")
    def view():
        runs.append(1)
        before = session.scalar(select(Thing.size).where(Thing.id == 1))
        bump()
        if engine.name == "postgresql":
            with suppress(OperationalError), transaction():
                session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
        Thing(name=f"run {len(runs)}").save()
        kill(session.connection())
        return ""

    assert client.get("/rule").status_code in (500, 503)
    assert len(runs) == 1


@pytest.mark.skipif(engine.name != "postgresql", reason="a savepoint settles a conflict on PostgreSQL")
def test_an_error_after_a_settled_conflict_is_answered_at_once(app, client) -> None:
    runs = []

    @app.get("/rule")
    def view():
        runs.append(1)
        before = session.scalar(select(Thing.size).where(Thing.id == 1))
        bump()
        with suppress(OperationalError), transaction():
            session.execute(update(Thing).where(Thing.id == 1).values(size=before + 1))
        Thing(name="counter").save()

    assert client.get("/rule").status_code == 409
    assert len(runs) == 1


def test_a_commit_of_what_a_function_wrote_forbids_a_repetition(app, client) -> None:
    runs = []

    @app.get("/rule")
    def view():
        session.scalar(text("SELECT 1"))  # it may have called a function that writes
        session.commit()
        lose_once(runs)
        return ""

    assert client.get("/rule").status_code == 503
    assert len(runs) == 1


def test_a_commit_of_a_request_within_a_request_forbids_a_repetition(app, client) -> None:
    runs = []

    @app.post("/inner")
    def inner():
        Thing(name=f"inner {len(runs)}").save()
        return ""

    @app.get("/rule")
    def view():
        app.test_client().post("/inner")
        lose_once(runs)
        return ""

    assert client.get("/rule").status_code == 503
    assert names() == ["inner 0"]


def test_one_transaction_object_may_be_shared_by_threads() -> None:
    shared, inside, leave = transaction(), threading.Event(), threading.Event()

    def first() -> None:
        with shared:
            inside.set()
            leave.wait(10)
            Thing(name="first").save()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait(10)
    with shared:
        Thing(name="second").save()
    leave.set()
    thread.join()

    assert sorted(names()) == ["first", "second"]


def test_a_body_without_a_length_is_read_again(app, client) -> None:
    from flask import request

    seen, runs = [], []

    @app.post("/rule")
    def view():
        seen.append(request.get_data())
        lose_once(runs)
        return ""

    client.post("/rule", input_stream=io.BytesIO(b"hello"), environ_overrides={"wsgi.input_terminated": True})

    assert seen == [b"hello", b"hello"]


@pytest.mark.parametrize("kind", ["request", "app"])
def test_a_thread_that_outlives_its_context_has_a_session_of_its_own(app, client, kind) -> None:
    found, over = [], threading.Event()

    def work() -> None:
        over.wait(10)
        try:
            with transaction():
                Thing(name="late").save()
            found.append("saved")
        except Exception as error:  # noqa: BLE001 (shown below)
            found.append(error)

    def begin() -> threading.Thread:
        thread = threading.Thread(target=contextvars.copy_context().run, args=(work,))
        thread.start()
        return thread

    @app.get("/rule")
    def view():
        g.thread = begin()
        threads.append(g.thread)
        return ""

    threads: list[threading.Thread] = []
    if kind == "request":
        client.get("/rule")
    else:
        with app.app_context():
            threads.append(begin())
    over.set()
    threads[0].join(10)

    assert found == ["saved"]
    assert names() == ["late"]


def test_threads_that_outlive_their_context_share_no_session(app) -> None:
    found, over, both = [], threading.Event(), threading.Barrier(2)

    def work() -> None:
        over.wait(10)
        found.append(session())
        both.wait(10)
        session.remove()

    with app.app_context():
        threads = [threading.Thread(target=contextvars.copy_context().run, args=(work,)) for _ in range(2)]
        for thread in threads:
            thread.start()
    over.set()
    for thread in threads:
        thread.join(10)

    assert len(set(found)) == 2


@pytest.mark.parametrize("own", [False, True], ids=["handled as any", "with a handler of its own"])
def test_a_kind_of_500_commits_only_with_a_handler_of_its_own(app, client, own) -> None:
    class BrokenError(InternalServerError):
        """A 500 of the app's own."""

    app.register_error_handler(500, lambda _: ("fine", 200))
    if own:
        app.register_error_handler(BrokenError, lambda _: ("fine", 200))

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        raise BrokenError

    assert client.post("/rule").text == "fine"
    assert names() == (["box"] if own else [])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_the_session_may_end_its_transaction_within_an_inner_block(end) -> None:
    with transaction():
        Thing(name="outer").save()
        with transaction():
            Thing(name="inner").save()
            getattr(session, end)()
        Thing(name="after").save()

    assert names() == (["outer", "inner", "after"] if end == "commit" else ["after"])


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_an_error_after_the_end_of_the_transaction_stays_what_it_is(end) -> None:
    def work() -> None:
        with transaction():
            Thing(name="outer").save()
            with transaction():
                getattr(session, end)()
                raise LookupError

    with pytest.raises(LookupError):
        work()
    assert names() == (["outer"] if end == "commit" else [])


def test_a_session_that_is_removed_within_a_block_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="removed within"), transaction():
        Thing(name="box").save()
        session.remove()

    current = session()
    gc.collect()  # what is left of the block
    assert session() is current
    assert names() == []


@pytest.mark.parametrize(
    ("begin", "back"), [("SAVEPOINT a", "ROLLBACK TO a"), ("savepoint B;", "rollback to savepoint b;")]
)
def test_savepoints_may_be_written_by_hand(app, client, begin, back) -> None:
    @app.post("/rule")
    def view():
        Thing(name="before").save()
        session.execute(text(begin))
        session.execute(insert(Thing).values(name="within", size=0))
        session.execute(text(back))
        return ""

    assert client.post("/rule").status_code == 200
    assert names() == ["before"]


@servers_only
def test_an_error_stays_what_it_is_when_the_connection_is_dead(app, client) -> None:
    @app.post("/rule")
    def view():
        Thing(name="box").save()
        kill(session.connection())
        abort(404)

    assert client.post("/rule").status_code == 404
    assert names() == []
    assert engine.pool.checkedout() == 0


def test_a_redirect_to_what_is_no_url_commits_nothing(app, client) -> None:
    @app.post("/rule")
    def view():
        Thing(name="box").save()
        return redirect("http://[")

    assert client.post("/rule").status_code == 500
    assert names() == []


def test_a_success_for_a_failed_commit_becomes_a_problem(app, client) -> None:
    from flask import flash

    @app.errorhandler(IntegrityError)
    def answer(_error):
        flash("Saved!")
        return redirect("/done")

    @app.post("/rule")
    def view():
        Thing(name="box").save()
        session.add(Thing(name="box"))
        return ""

    answered = client.post("/rule")

    assert answered.status_code == 500
    assert answered.content_type == "application/problem+json"
    assert "Set-Cookie" not in answered.headers


def test_a_failed_commit_is_told_although_its_response_cannot_be_closed(app, client, caplog) -> None:
    @app.post("/rule")
    def view():
        session.add(Thing(name="counter"))
        response = Response("x")
        response.call_on_close(lambda: 1 / 0)
        return response

    assert client.post("/rule").status_code == 409
    assert "ZeroDivisionError" in caplog.text


def test_a_callback_is_not_called_for_a_commit_that_failed_and_was_answered_by_a_handler(app, client) -> None:
    called = []
    app.register_error_handler(IntegrityError, lambda _: ("taken", 409))

    @app.post("/rule")
    def view():
        on_commit(lambda: called.append(1))
        session.add(Thing(name="counter"))
        return ""

    assert client.post("/rule").text == "taken"
    assert called == []


def test_a_commit_that_is_refused_leaves_its_connection_in_no_transaction() -> None:
    session.execute(update(Thing).where(Thing.id == 1).values(size=1))
    with suppress(SQLAlchemyError):
        session.execute(text("SELECT * FROM nowhere"))
    with suppress(SQLAlchemyError):
        session.commit()
    session.remove()

    assert session.scalar(select(Thing.size).where(Thing.id == 1)) in (0, 1)
    session.remove()
    assert size() == (0 if engine.name == "postgresql" else 1)


def test_many_rows_at_once_are_one_transaction(app, client) -> None:
    @app.post("/rule")
    def view():
        session.execute(insert(Thing), [{"name": "first", "size": 0}, {"name": "second", "size": 0}])
        return "", 409

    assert client.post("/rule").status_code == 409
    assert names() == []


@pytest.mark.skipif(engine.name != "postgresql", reason="for PostgreSQL: a function that writes")
def test_what_a_select_has_written_is_committed(app, client) -> None:
    app.add_url_rule("/rule", view_func=lambda: str(session.scalar(text("SELECT lo_create(0)"))))

    made = client.get("/rule").text

    with Session(engine) as own:
        assert own.scalar(text(f"SELECT lo_unlink({made})")) == 1
        own.commit()


@servers_only
def test_an_unknown_commit_is_not_repeated_after_a_conflict_that_the_view_has_swallowed(app, client) -> None:
    runs = []

    @app.post("/rule")
    def view():
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        request.environ["app.attempt"].lost_in = {"lost": None}
        kill(session.connection())
        return ""

    assert client.post("/rule").status_code >= 500
    assert len(runs) == 1


def test_an_error_that_was_answered_does_not_explain_what_a_teardown_loses(app, client, caplog) -> None:
    @app.teardown_request
    def write(_error):
        Thing(name="late").save()

    @app.post("/rule")
    def view():
        session.scalar(select(Thing.size))
        raise LookupError

    assert client.post("/rule").status_code == 500
    assert "Discarded what nobody has committed: INSERT INTO things" in caplog.text


def test_a_copied_context_that_loses_a_write_raises_in_tests(app, client) -> None:
    app.testing = True

    @app.post("/rule")
    def view():
        with pytest.raises(RuntimeError, match="INSERT INTO things"):
            copy_current_request_context(lambda: Thing(name="lost").save())()
        return ""

    assert client.post("/rule").status_code == 200


def test_a_context_that_has_ended_keeps_no_session(app) -> None:
    with app.app_context() as context:
        session.scalar(select(Thing.size))

    assert ref(context) not in session.sessions


@pytest.mark.skipif(engine.name != "sqlite", reason="for SQLite")
def test_who_says_how_a_transaction_begins_is_obeyed(app, client, begins) -> None:
    @app.post("/rule")
    def view():
        session.connection(execution_options={"sqlite_begin": "EXCLUSIVE"})
        Thing(name="box").save()
        return ""

    assert client.post("/rule").status_code == 200
    assert begins == ["BEGIN EXCLUSIVE"]


def test_a_response_that_fails_to_close_keeps_no_connection(app, client) -> None:
    def fail():
        session.scalar(select(Thing.size))
        raise LookupError

    @app.get("/rule")
    def view():
        response = Response("")
        response.call_on_close(fail)
        return response

    with pytest.raises(LookupError):
        client.get("/rule").close()
    assert engine.pool.checkedout() == 0


@servers_only
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_ends_neither_a_transaction_of_its_parent_nor_an_idle_connection() -> None:
    engine.dispose()  # what the tables were made by is idle too
    Thing(name="parent").save()
    with engine.connect() as connection:
        idle = connection.scalar(text(BACKEND))

    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            Thing(name="child").save()
            session.commit()
            gc.collect()
        os._exit(0)
    os.waitpid(child, 0)

    with engine.connect() as connection:
        assert connection.scalar(text(BACKEND)) == idle
    session.commit()
    assert sorted(names()) == ["child", "parent"]


@servers_only
def test_an_idle_connection_that_was_killed_is_replaced() -> None:
    engine.dispose()
    with engine.connect() as connection:
        killed = connection.scalar(text(BACKEND))
    kill_backend(killed)

    with engine.connect() as connection:
        assert connection.scalar(text(BACKEND)) != killed


class Relay:
    """Passes on what the app and its server say to each other; it can drop connections as a firewall does: silently."""

    PING = b"Q\0\0\0\6;\0" if engine.name == "postgresql" else b"\1\0\0\0\x0e"

    def __init__(self) -> None:
        """Listen; the threads end with the sockets."""
        self.sent = bytearray()
        self.clients: list[socket.socket] = []
        self.dropped: dict[socket.socket, str] = {}
        self.listener = socket.create_server(("127.0.0.1", 0))
        plain = {"sslmode": "disable"} if engine.name == "postgresql" else {"ssl_disabled": "true"}
        url = engine.url.update_query_dict(plain)
        self.url = url.set(host="127.0.0.1", port=self.listener.getsockname()[1])
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        """Pass on what each client says, and the answers."""
        default = 5432 if engine.name == "postgresql" else 3306
        with suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                server = socket.create_connection((engine.url.host, engine.url.port or default))
                self.clients.append(client)
                threading.Thread(target=self.listen, args=(client, server), daemon=True).start()
                threading.Thread(target=self.answer, args=(server, client), daemon=True).start()

    def listen(self, client: socket.socket, server: socket.socket) -> None:
        """Pass on what a client says, until it is dropped: then it is told so when it speaks."""
        with suppress(OSError):
            while said := client.recv(65536):
                if how := self.dropped.get(client):
                    if how == "reset":
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    break
                self.sent += said
                server.sendall(said)
        client.close()
        with suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)  # `answer` still waits for it

    def answer(self, server: socket.socket, client: socket.socket) -> None:
        """Pass on what the server says, and that it has ended."""
        with suppress(OSError), server:
            while said := server.recv(65536):
                client.sendall(said)
            client.shutdown(socket.SHUT_RDWR)

    def drop(self, how: str) -> None:
        """Forget the connections that there are."""
        self.dropped |= dict.fromkeys(self.clients, how)


@pytest.fixture
def relay() -> Iterator[Relay]:
    """What stands between the app and its server."""
    relay = Relay()
    yield relay
    relay.listener.close()


@servers_only
def test_only_an_idle_connection_is_asked_whether_it_is_there(relay, monkeypatch) -> None:
    other = make_engine(relay.url)
    used = []
    for busy in (60, 60, 0):
        monkeypatch.setattr("app.drivers.BUSY", busy)
        relay.sent.clear()
        with other.connect() as connection:
            used.append((connection.scalar(text(BACKEND)), Relay.PING in relay.sent))
    other.dispose()

    assert used == [(used[0][0], False), (used[0][0], False), (used[0][0], True)]


@servers_only
def test_a_connection_is_asked_each_time_where_the_system_cannot_tell(relay, monkeypatch) -> None:
    monkeypatch.setattr("app.drivers.BUSY", 60)
    monkeypatch.delattr("select.poll")
    other = make_engine(relay.url)
    other.connect().close()
    relay.sent.clear()
    other.connect().close()
    other.dispose()

    assert Relay.PING in relay.sent


@servers_only
def test_a_connection_that_was_closed_in_the_pool_is_replaced(monkeypatch) -> None:
    monkeypatch.setattr("app.drivers.BUSY", 60)
    other = make_engine(engine.url)
    with other.connect() as connection:
        driver = connection.connection.driver_connection
    driver.close()

    with other.connect() as connection:
        assert connection.scalar(text("SELECT 1")) == 1
    other.dispose()


@servers_only
@pytest.mark.parametrize("how", ["reset", "ended"])
def test_an_idle_connection_that_was_dropped_silently_is_replaced(relay, how, monkeypatch) -> None:
    monkeypatch.setattr("app.drivers.BUSY", 0)
    other = make_engine(relay.url)
    with other.connect() as connection:
        dropped = connection.scalar(text(BACKEND))
    relay.drop(how)

    with other.connect() as connection:
        assert connection.scalar(text(BACKEND)) != dropped
    other.dispose()


@mariadb_only
@pytest.mark.parametrize(("after_commit", "sent"), [("", 0), ("SELECT 1", 1), ("SELECT nothing", 1)])
def test_only_what_may_be_in_a_transaction_is_rolled_back_on_its_way_to_the_pool(relay, after_commit, sent) -> None:
    other = make_engine(relay.url)
    other.connect().close()  # the first one looks at the server
    with other.connect() as connection:
        connection.execute(text("SELECT 1"))
        connection.commit()
        relay.sent.clear()
        if after_commit:
            with suppress(other.dialect.loaded_dbapi.Error):
                connection.connection.cursor().execute(after_commit)
    other.dispose()

    assert relay.sent.count(b"ROLLBACK") == sent


@mariadb_only
def test_a_connection_with_a_level_of_its_own_that_dies_after_its_commit_is_given_back() -> None:
    engine.dispose()
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        killed = connection.scalar(text(BACKEND))
        connection.commit()
        kill_backend(killed)

    assert engine.pool.checkedout() == 0


@servers_only
def test_a_connection_that_was_taken_out_of_the_pool_commits_and_ends() -> None:
    with engine.connect() as connection:
        connection.detach()
        connection.execute(insert(Thing).values(name="kept", size=1))
        connection.commit()
        driver = connection.connection.dbapi_connection

    assert names() == ["kept"]
    assert driver.closed if engine.name == "postgresql" else not driver.open


@servers_only
def test_a_ping_that_fails_for_any_reason_says_that_nobody_is_there(monkeypatch) -> None:
    monkeypatch.setattr("app.drivers.BUSY", 0)
    engine.dispose()
    with engine.connect() as connection:
        driver = connection.connection.dbapi_connection
        first = connection.scalar(text(BACKEND))
    if engine.name == "postgresql":
        driver.execute("SELECT 1")  # psycopg refuses to ping within a transaction, for a reason of its own
    else:
        driver.close()

    with engine.connect() as connection:
        assert connection.scalar(text(BACKEND)) != first


@servers_only
def test_the_isolation_level_of_one_transaction_is_not_that_of_the_next(monkeypatch) -> None:
    monkeypatch.setenv("DATABASE_ISOLATION", "SERIALIZABLE")
    strict = make_engine(engine.url)
    with strict.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        assert connection.get_isolation_level() == "READ COMMITTED"

    with strict.connect() as connection:
        assert connection.get_isolation_level() == "SERIALIZABLE"
    strict.dispose()


@mariadb_only
def test_a_statement_may_take_longer_than_the_server_has_to_greet() -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT SLEEP(3.2)")) == 0


@servers_only
def test_a_context_whose_connection_is_dead_ends_quietly(app) -> None:
    with app.app_context():
        Thing(name="lost").save()
        kill(session.connection())
        with suppress(SQLAlchemyError):
            session.scalar(select(Thing.size))

    assert names() == []


@pytest.mark.skipif(engine.name != "postgresql", reason="for PostgreSQL: COPY")
def test_what_fails_by_the_driver_alone_is_not_committed_as_nothing(app, client) -> None:
    called = []

    @app.post("/rule")
    def view():
        Thing(name="before").save()
        on_commit(lambda: called.append(1))
        cursor = session.connection().connection.cursor()
        with suppress(Exception), cursor.copy("COPY things (name, size) FROM STDIN") as copy:
            copy.write("counter\t1\n")
        return ""

    assert client.post("/rule").status_code == 500
    assert called == []
    assert names() == []


@pytest.mark.skipif(engine.name != "postgresql", reason="for PostgreSQL: COPY")
def test_what_a_savepoint_has_settled_is_not_the_reason_for_a_later_failure() -> None:
    with pytest.raises(PendingRollbackError, match="What the driver was told"), transaction():
        Thing(name="one").save()
        with suppress(IntegrityError):
            Thing(name="one").save()
        cursor = session.connection().connection.cursor()
        with suppress(Exception), cursor.copy("COPY things (name, size) FROM STDIN") as copy:
            copy.write("one\t1\n")

    assert names() == []


@servers_only
def test_a_connection_that_is_dead_before_its_first_transaction_says_so() -> None:
    engine.dispose()
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        kill_backend(driver.info.backend_pid if engine.name == "postgresql" else driver.thread_id())
        with pytest.raises(OperationalError):
            connection.get_isolation_level()


@pytest.mark.skipif(engine.name != "postgresql", reason="for PostgreSQL")
def test_a_transaction_that_the_server_has_ended_for_its_idleness_may_be_tried_again(app, client) -> None:
    @app.post("/rule")
    def view():
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = '50ms'"))
        time.sleep(0.3)
        Thing(name="lost").save()
        return ""

    assert client.post("/rule").status_code == 503
    assert names() == []


@pytest.mark.parametrize(("status", "kept"), [(200, ["cup"]), (400, [])])
def test_what_the_driver_alone_has_written_is_decided_by_the_response(app, client, status, kept) -> None:
    @app.post("/rule")
    def view():
        cursor = session.connection().connection.cursor()
        cursor.execute("INSERT INTO things (name, size) VALUES ('cup', 1)")
        return "", status

    client.post("/rule")

    assert names() == kept


@pytest.mark.skipif(engine.name not in ("mysql", "mariadb"), reason="for MySQL and MariaDB")
@pytest.mark.parametrize("seconds", [1, None])
def test_a_statement_may_take_as_long_as_the_url_says(seconds) -> None:
    url = engine.url.update_query_dict({"read_timeout": str(seconds)} if seconds else {})
    other = make_engine(url)
    with other.connect() as connection:
        wait = "SELECT SLEEP(3.3)" if seconds is None else "SELECT SLEEP(2)"  # longer than what the greeting may take
        with pytest.raises(OperationalError) if seconds else nullcontext():
            connection.execute(text(wait))
    other.dispose()


@pytest.mark.skipif(engine.name not in ("mysql", "mariadb"), reason="for MySQL and MariaDB")
def test_times_that_the_server_writes_are_in_utc() -> None:
    with engine.connect() as connection:
        assert connection.scalar(text("SELECT @@session.time_zone")) == "+00:00"


@pytest.mark.skipif(engine.name not in ("mysql", "mariadb"), reason="for MySQL and MariaDB")
@pytest.mark.parametrize("authority", [None, "/of/the/server.pem"])
def test_a_connection_reads_no_certificates_that_it_does_not_check(monkeypatch, authority) -> None:
    read = []
    new_context = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda **files: read.append(files["cafile"]) or new_context())
    other = make_engine(engine.url.update_query_dict({"ssl_ca": authority} if authority else {}))
    used = []
    for _ in range(3):
        # Who names an authority refuses a server that has no TLS, or a certificate of others.
        with pytest.raises(OperationalError) if authority else nullcontext(), other.connect() as connection:
            used.append(type(connection.connection.driver_connection.ctx))
            connection.detach()

    assert (read, used) == (([authority] * 3, []) if authority else ([None], [ssl.SSLContext] * 3))


@servers_only
@pytest.mark.parametrize("seconds", [7, None])
def test_a_server_has_as_long_to_answer_as_the_url_says(seconds) -> None:
    other = make_engine(engine.url.update_query_dict({"connect_timeout": str(seconds)} if seconds else {}))
    event.listen(other, "do_connect", lambda *told: connecting.update(told[-1]))
    connecting = {}
    with other.connect():
        pass
    other.dispose()

    assert int(connecting["connect_timeout"]) == (seconds or 3)
