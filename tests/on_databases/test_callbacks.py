"""`on_commit`: in order, once, after the outermost COMMIT, and never early."""

from contextlib import suppress

import pytest
from app.db import current_session, engine, session, session_factory
from app.transactions import on_commit, set_rollback, transaction
from flask import abort
from rules.conftest import Thing, kill, names
from sqlalchemy import create_engine, event, insert, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm import Session, SessionTransaction


@pytest.fixture
def called() -> list:
    return []


def post(app, view):
    app.add_url_rule("/rule", view_func=view, methods=["POST"])
    return app.test_client().post("/rule")


def test_in_order_after_the_commit(app, called) -> None:
    def view():
        on_commit(lambda: called.append(("first", names())))
        Thing(name="box").save()
        on_commit(lambda: called.append(("second", names())))
        called.append("view")
        return ""

    post(app, view)

    assert called == ["view", ("first", ["box"]), ("second", ["box"])]


def test_what_a_listener_of_the_commit_asks_for_is_called_after_it(app, called) -> None:
    def listen(committed: Session) -> None:
        if not committed.in_nested_transaction():
            on_commit(lambda: called.append(names()))

    def view():
        Thing(name="box").save()
        return ""

    event.listen(session_factory, "after_commit", listen)
    try:
        post(app, view)
    finally:
        event.remove(session_factory, "after_commit", listen)

    assert called == [["box"]]


def test_what_a_listener_asks_for_at_the_end_of_a_transaction_that_has_only_read_is_called(app, called) -> None:
    def listen(ended: Session, _transaction: SessionTransaction) -> None:
        on_commit(lambda: called.append(names()))

    event.listen(session_factory, "after_transaction_end", listen)
    try:
        post(app, lambda: str(session.get(Thing, 1)))
    finally:
        event.remove(session_factory, "after_transaction_end", listen)

    assert called[0] == []


@pytest.mark.parametrize("status", [400, 404, 500])
def test_not_after_an_error(app, called, status) -> None:
    def view():
        Thing(name="box").save()
        on_commit(lambda: called.append(1))
        return "", status

    post(app, view)

    assert called == []


def test_not_after_abort_nor_an_exception(app, called) -> None:
    def view():
        on_commit(lambda: called.append(1))
        abort(404)

    @app.post("/raises")
    def raises():
        on_commit(lambda: called.append(1))
        raise LookupError

    assert post(app, view).status_code == 404
    assert app.test_client().post("/raises").status_code == 500
    assert called == []


def test_not_after_set_rollback_but_after_its_opposite(app, called) -> None:
    @app.post("/<int:rollback>/<int:status>")
    def view(rollback, status):
        Thing(name=f"{rollback} {status}").save()
        on_commit(lambda: called.append(status))
        set_rollback(bool(rollback))
        return "", status

    client = app.test_client()
    client.post("/1/200")
    client.post("/0/400")

    assert called == [400]


def test_not_after_a_commit_that_fails(app, called, monkeypatch) -> None:
    def view():
        Thing(name="box").save()
        on_commit(lambda: called.append(1))
        current_session.add(Thing(name="box"))
        return ""

    assert post(app, view).status_code == 409
    assert called == []
    assert names() == []


def test_after_a_response_without_work(app, called) -> None:
    def view():
        on_commit(lambda: called.append(1))
        called.append("view")
        return ""

    post(app, view)

    assert called == ["view", 1]


def test_after_a_response_that_only_read(app, called) -> None:
    def view():
        on_commit(lambda: called.append(1))
        session.scalars(select(Thing)).all()
        called.append("view")
        return ""

    post(app, view)

    assert called == ["view", 1]


def test_an_idle_commit_of_the_view_is_not_the_commit(app, called) -> None:
    def view():
        on_commit(lambda: called.append(1))
        session.commit()
        called.append("view")
        return "", 400

    post(app, view)

    assert called == ["view"]


def test_a_commit_of_the_views_own_is_one(app, called) -> None:
    def view():
        Thing(name="box").save()
        on_commit(lambda: called.append(names()))
        session.commit()
        called.append("view")
        Thing(name="late").save()
        on_commit(lambda: called.append("late"))
        return "", 400

    post(app, view)

    assert called == [["box"], "view"]


def test_a_rollback_of_the_views_own_forgets(app, called) -> None:
    def view():
        on_commit(lambda: called.append("idle"))
        session.rollback()
        Thing(name="box").save()
        on_commit(lambda: called.append("box"))
        session.rollback()
        on_commit(lambda: called.append("last"))
        return ""

    post(app, view)

    assert called == ["last"]


def test_the_release_of_a_savepoint_is_no_commit(app, called) -> None:
    def view():
        with session.begin_nested():
            Thing(name="box").save()
            on_commit(lambda: called.append("in a savepoint"))
        with transaction():
            Thing(name="bag").save()
            on_commit(lambda: called.append("in a block"))
        called.append("view")
        return ""

    post(app, view)

    assert called == ["view", "in a savepoint", "in a block"]


def test_not_if_the_savepoint_was_released_and_the_request_rolled_back(app, called) -> None:
    def view():
        with transaction():
            Thing(name="box").save()
            on_commit(lambda: called.append(1))
        return "", 400

    post(app, view)

    assert called == []


def test_forgotten_with_its_savepoint(app, called) -> None:
    def view():
        on_commit(lambda: called.append("before"))
        for name, fails in [("one", True), ("two", False)]:
            try:
                with transaction():
                    Thing(name=name).save()
                    on_commit(lambda name=name: called.append(name))
                    if fails:
                        raise LookupError
            except LookupError:
                on_commit(lambda: called.append("between"))
        return ""

    post(app, view)

    assert called == ["before", "between", "two"]
    assert names() == ["two"]


def test_forgotten_with_a_savepoint_in_which_nothing_was_done(app, called) -> None:
    def view():
        with suppress(LookupError), session.begin_nested():
            on_commit(lambda: called.append("in it"))
            raise LookupError
        on_commit(lambda: called.append("after"))
        return ""

    post(app, view)

    assert called == ["after"]


def test_forgotten_with_the_savepoint_around_its_own(app, called) -> None:
    def view():
        with pytest.raises(LookupError), transaction():
            Thing(name="outer").save()
            with transaction():
                Thing(name="inner").save()
                on_commit(lambda: called.append("inner"))
            on_commit(lambda: called.append("outer"))
            raise LookupError
        Thing(name="after").save()
        on_commit(lambda: called.append("after"))
        return ""

    post(app, view)

    assert called == ["after"]
    assert names() == ["after"]


def test_forgotten_with_a_savepoint_that_is_not_the_sessions(app, called) -> None:
    def view():
        Thing(name="before").save()
        on_commit(lambda: called.append("before"))
        with session.connection().begin_nested() as savepoint:
            on_commit(lambda: called.append("core"))
            with session.connection().begin_nested():
                on_commit(lambda: called.append("inner"))
            savepoint.rollback()
        with session.connection().begin_nested():
            on_commit(lambda: called.append("released"))
        session.execute(text("SAVEPOINT mine"))
        on_commit(lambda: called.append("text"))
        session.execute(text("ROLLBACK TO SAVEPOINT mine"))
        on_commit(lambda: called.append("after"))
        return ""

    assert post(app, view).status_code == 200
    assert called == ["before", "released", "after"]
    assert names() == ["before"]


def test_of_savepoints_with_the_same_name_the_last_one_is_meant(app, called) -> None:
    def send(*statements):
        for statement in statements:
            session.execute(text(statement))

    def view():
        send("SAVEPOINT one")
        on_commit(lambda: called.append("released"))
        send("RELEASE SAVEPOINT one", "SAVEPOINT one", "ROLLBACK TO SAVEPOINT one")
        on_commit(lambda: called.append("rolled back again"))
        send("ROLLBACK TO SAVEPOINT one")
        on_commit(lambda: called.append("around"))
        send("SAVEPOINT one", "ROLLBACK TO SAVEPOINT one")
        if engine.name != "mariadb":  # where a second one takes the place of the first
            send("SAVEPOINT two", "SAVEPOINT two")
            on_commit(lambda: called.append("within both"))
            send("RELEASE SAVEPOINT two", "ROLLBACK TO SAVEPOINT two")
            send("SAVEPOINT three")
            on_commit(lambda: called.append("within the first"))
            send("SAVEPOINT four", "SAVEPOINT three", "RELEASE SAVEPOINT four", "ROLLBACK TO SAVEPOINT three")
        return ""

    assert post(app, view).status_code == 200
    assert called == ["released", "around"]


def test_what_was_released_is_still_reported(app, caplog) -> None:
    with app.app_context():
        session.execute(text("SAVEPOINT one"))
        session.execute(insert(Thing).values(name="lost"))
        session.execute(text("RELEASE SAVEPOINT one"))
        session.execute(text("SAVEPOINT one"))
        session.execute(text("ROLLBACK TO SAVEPOINT one"))

    assert "Discarded what nobody has committed: INSERT INTO things." in caplog.text


def test_a_failed_save_forgets_what_its_own_flush_has_asked_for(app, called) -> None:
    def in_flush(*_):
        on_commit(lambda: called.append("in the flush"))

    def view():
        on_commit(lambda: called.append("before"))
        with pytest.raises(DBAPIError):
            Thing(name=None).save()
        return ""

    event.listen(Thing, "before_insert", in_flush)
    try:
        assert post(app, view).status_code == 200
    finally:
        event.remove(Thing, "before_insert", in_flush)
    assert called == ["before"]


def test_after_the_use_of_another_engine(app, called, tmp_path) -> None:
    other = create_engine(f"sqlite:///{tmp_path}/other.sqlite3")

    def view():
        session.execute(text("SELECT 1"), bind_arguments={"bind": other})
        on_commit(lambda: called.append("after"))
        return ""

    assert post(app, view).status_code == 200
    assert called == ["after"]
    other.dispose()


@pytest.mark.skipif(engine.name == "sqlite", reason="SQLite is no server")
def test_not_after_a_dead_connection_and_it_is_not_the_place_to_say_so(app, called) -> None:
    def view():
        Thing(name="lost").save()
        kill(session.connection())
        with suppress(DBAPIError):
            session.scalar(select(Thing.size))
        on_commit(lambda: called.append("never"))
        called.append("noted")
        return ""

    assert post(app, view).status_code >= 500
    assert called == ["noted"]
    assert names() == []


def test_a_failed_save_forgets_nothing(app, called) -> None:
    def view():
        on_commit(lambda: called.append("before"))
        with pytest.raises(IntegrityError):
            Thing(name="counter").save()
        Thing(name="box").save()
        with pytest.raises(IntegrityError):
            Thing(name="counter").save()
        on_commit(lambda: called.append("after"))
        return ""

    post(app, view)

    assert called == ["before", "after"]
    assert names() == ["box"]


def test_a_flush_that_ends_the_transaction_forgets(app, called) -> None:
    def view():
        on_commit(lambda: called.append("before"))
        session.add(Thing(name="counter"))
        with pytest.raises(IntegrityError):
            session.flush()
        session.rollback()
        return ""

    post(app, view)

    assert called == []


def test_one_that_raises_is_logged_and_the_others_run(app, called, caplog) -> None:
    def view():
        Thing(name="box").save()
        on_commit(lambda: called.append(1))
        on_commit(lambda: called[7])
        on_commit(lambda: called.append(3))
        return "fine"

    answer = post(app, view)

    assert (answer.status_code, answer.text) == (200, "fine")
    assert called == [1, 3]
    assert "IndexError" in caplog.text
    assert names() == ["box"]


def test_one_may_open_a_transaction_of_its_own(app, called) -> None:
    def callback():
        with transaction():
            Thing(name="callback").save()
            on_commit(lambda: called.append(names()))

    def view():
        Thing(name="box").save()
        on_commit(callback)
        return ""

    post(app, view)

    assert called == [["box", "callback"]]


def test_one_that_fails_in_its_own_transaction_stores_nothing(app, called, caplog) -> None:
    def callback():
        with transaction():
            Thing(name="callback").save()
            Thing(name="counter").save()

    def view():
        Thing(name="box").save()
        on_commit(callback)
        on_commit(lambda: called.append(names()))
        return ""

    assert post(app, view).status_code == 200
    assert called == [["box"]]


def test_what_one_writes_without_a_transaction_is_reported(app, caplog) -> None:
    def view():
        on_commit(lambda: Thing(name="callback").save())
        return ""

    post(app, view)

    assert "Discarded what nobody has committed" in caplog.text
    assert names() == []


def test_what_one_writes_with_the_session_of_the_request_is_reported(app, caplog) -> None:
    def view():
        decided = session()
        Thing(name="box").save()
        on_commit(lambda: decided.execute(insert(Thing).values(name="late", size=0)))
        return ""

    post(app, view)

    assert "Discarded what nobody has committed: INSERT INTO things." in caplog.text
    assert names() == ["box"]


def test_one_that_nobody_commits_is_reported(app, called, caplog) -> None:
    with app.app_context():
        session.scalars(select(Thing)).all()
        on_commit(lambda: called.append("lost"))

    assert called == []
    assert "Discarded what nobody has committed: the callback" in caplog.text


def test_one_may_use_the_objects_of_the_request(app, called) -> None:
    def view():
        thing = Thing(name="box").save()
        on_commit(lambda: called.append((thing.id, thing.name)))
        return ""

    post(app, view)

    assert called == [(2, "box")]


def test_outside_a_transaction_at_once(called) -> None:
    on_commit(lambda: called.append(1))

    assert called == [1]


def test_in_a_script(called) -> None:
    session.add(Thing(name="box"))
    on_commit(lambda: called.append(names()))
    assert called == []

    session.commit()
    session.commit()

    assert called == [["box"]]


def test_what_a_callback_of_a_script_does_not_commit_is_reported_and_is_no_error_of_its_own(caplog) -> None:
    on_commit(lambda: Thing(name="box").save())

    (told,) = caplog.messages
    assert told == "Discarded what nobody has committed: INSERT INTO things."
    assert names() == []


def test_in_a_script_with_begin(called) -> None:
    with session.begin():
        session.add(Thing(name="box"))
        on_commit(lambda: called.append(names()))
        with session.begin_nested():
            session.add(Thing(name="bag"))
        assert called == []

    assert called == [["box", "bag"]]


def test_in_a_script_with_begin_and_without_work(called) -> None:
    with session.begin():
        on_commit(lambda: called.append(1))
        assert called == []

    assert called == [1]


def test_in_a_script_that_rolls_back(called) -> None:
    Thing(name="box").save()
    on_commit(lambda: called.append(1))
    session.rollback()
    session.commit()

    assert called == []


def test_in_a_script_with_begin_that_fails(called) -> None:
    with suppress(LookupError), session.begin():
        Thing(name="box").save()
        on_commit(lambda: called.append("early"))
        raise LookupError
    with session.begin():
        Thing(name="other").save()

    assert called == []


def test_in_a_script_that_removes_its_session(called) -> None:
    Thing(name="box").save()
    on_commit(lambda: called.append(1))
    session.remove()
    session.commit()

    assert called == []


def test_in_a_block(called) -> None:
    with transaction():
        on_commit(lambda: called.append(names()))
        Thing(name="box").save()
        assert called == []

    assert called == [["box"]]


def test_in_a_block_without_work(called) -> None:
    with transaction():
        on_commit(lambda: called.append(1))
        assert called == []

    assert called == [1]


def test_in_a_block_that_fails(called) -> None:
    with pytest.raises(LookupError), transaction():
        on_commit(lambda: called.append(1))
        raise LookupError

    with pytest.raises(DBAPIError), transaction():
        on_commit(lambda: called.append(2))
        session.add(Thing(name="counter"))

    assert called == []


def test_in_an_attempt_that_lost_a_conflict_it_is_forgotten(called) -> None:
    from rules.test_conflicts import sqlite_busy
    from sqlalchemy.exc import OperationalError

    @transaction(attempts=3)
    def work():
        Thing(name="box").save()
        on_commit(lambda: called.append(names()))
        if not called and not tried:
            tried.append(1)
            raise OperationalError("", {}, sqlite_busy())

    tried = []
    work()

    assert called == [["box"]]


def test_in_a_stream(app, called) -> None:
    @app.get("/rule")
    def view():
        def pieces():
            yield "a"
            with transaction():
                Thing(name="streamed").save()
                on_commit(lambda: called.append(names()))
            yield "b"

        return pieces()

    assert app.test_client().get("/rule").text == "ab"
    assert called == [["streamed"]]


def test_in_a_nested_context(app, called) -> None:
    def view():
        on_commit(lambda: called.append("outer"))
        with app.app_context(), transaction():
            Thing(name="inner").save()
            on_commit(lambda: called.append("inner"))
        called.append("view")
        return ""

    # SQLite has one writer: the request must not hold the lock.
    post(app, view)

    assert called == ["inner", "view", "outer"]


def test_the_sessions_of_others_are_not_meant(app, called) -> None:
    def view():
        on_commit(lambda: called.append("mine"))
        with session_factory() as other:
            other.execute(select(Thing))
            other.commit()
        with Session(engine) as other:
            other.execute(select(Thing))
            other.commit()
        called.append("view")
        return ""

    post(app, view)

    assert called == ["view", "mine"]


def test_a_rollback_forgets_what_waited_before_any_work(app, called) -> None:
    def view():
        on_commit(lambda: called.append(1))
        session.rollback()
        Thing(name="box").save()
        return ""

    assert post(app, view).status_code == 200
    assert called == []
