"""Which answer commits, in Flask's real order of events; and what a failed commit takes back."""

import pickle
from contextlib import suppress
from uuid import uuid4

import pytest
from app import transactions
from app.db import AppSession, engine, session, session_factory
from app.transactions import on_commit, session_commit, set_rollback
from flask import (
    Blueprint,
    Flask,
    Response,
    abort,
    after_this_request,
    flash,
    g,
    get_flashed_messages,
    redirect,
    request,
    request_finished,
)
from flask import session as client_session
from flask.sessions import SecureCookieSessionInterface, SessionInterface, SessionMixin
from sqlalchemy import create_engine, event, insert, inspect, select, text, update
from sqlalchemy.exc import IntegrityError, InvalidRequestError
from sqlalchemy.orm import Session
from tests.test_conflicts import conflict
from tests.things import Part, Thing
from werkzeug.datastructures import CallbackDict
from werkzeug.exceptions import InternalServerError
from werkzeug.routing import BaseConverter

pytestmark = pytest.mark.usefixtures("things")


def saved() -> list[str]:
    with session_factory() as other:
        return list(other.scalars(select(Thing.name).order_by(Thing.id)))


def test_a_short_cut_before_the_request_commits(app, client) -> None:
    @app.before_request
    def answer():
        Thing(name="early").save()
        return "early"

    assert client.post("/nowhere").text == "early"
    assert saved() == ["early"]


def test_a_before_request_function_that_aborts_rolls_back(app, client) -> None:
    @app.before_request
    def answer():
        Thing(name="early").save()
        abort(403)

    assert client.post("/").status_code == 403
    assert saved() == []


def test_the_hooks_of_a_blueprint_are_included(app, client) -> None:
    blueprint = Blueprint("late", __name__)

    @blueprint.after_request
    def write(response):
        Thing(name="blueprint").save()
        return response

    @blueprint.post("/late")
    def view():
        @after_this_request
        def later(response):
            Thing(name="this request").save()
            return response

        return ""

    app.register_blueprint(blueprint)
    client.post("/late")

    assert saved() == ["this request", "blueprint"]


def test_the_saving_of_the_clients_session_is_included(app, client) -> None:
    class Stored(SecureCookieSessionInterface):
        def save_session(self, app, session, response):
            Thing(name="session").save()

    app.session_interface = Stored()
    app.add_url_rule("/post", view_func=lambda: "", methods=["POST"])
    client.post("/post")

    assert saved() == ["session"]


def test_a_clients_session_that_cannot_be_saved_rolls_back(app, client) -> None:
    class Broken(SecureCookieSessionInterface):
        def save_session(self, app, session, response):
            raise LookupError

    app.session_interface = Broken()

    @app.post("/post")
    def view():
        Thing(name="box").save()
        return ""

    with pytest.raises(LookupError):
        client.post("/post")
    assert saved() == []


@pytest.mark.parametrize("fails", [False, True])
def test_a_receiver_of_request_finished_is_included(app, client, fails) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    def receive(_sender, response):
        Thing(name="receiver").save()
        if fails:
            raise LookupError

    app.add_url_rule("/post", view_func=lambda: "", methods=["POST"])
    with request_finished.connected_to(receive, app):
        status = client.post("/post").status_code

    assert status == (500 if fails else 200)
    assert saved() == ([] if fails else ["receiver"])


def test_a_later_hook_decides_by_the_status_it_sets(app, client) -> None:
    @app.after_request
    def teapot(response):
        response.status_code = 418
        return response

    @app.post("/post")
    def view():
        Thing(name="box").save()
        return ""

    assert client.post("/post").status_code == 418
    assert saved() == []


def test_a_view_that_returns_nothing_rolls_back(app, client) -> None:
    @app.post("/post")
    def view():
        Thing(name="box").save()

    with pytest.raises(TypeError):
        client.post("/post")
    assert saved() == []


def test_a_handler_for_every_exception_is_the_apps_own(app, client) -> None:
    app.register_error_handler(Exception, lambda _: "handled")

    @app.post("/post")
    def view():
        Thing(name="box").save()
        raise LookupError

    assert client.post("/post").text == "handled"
    assert saved() == ["box"]


@pytest.mark.parametrize("trap", [False, True], ids=["", "trapped by Flask"])
def test_an_abort_with_500_never_commits(app, client, trap) -> None:
    app.config["TRAP_HTTP_EXCEPTIONS"] = trap
    app.register_error_handler(500, lambda _: ("fine", 200))

    @app.post("/post")
    def view():
        Thing(name="box").save()
        abort(500)

    assert client.post("/post").status_code == 200
    assert saved() == []


def test_a_failed_commit_is_no_success_even_if_a_hook_says_so(app, client) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.after_request
    def all_is_well(response):
        response.status_code = 200
        return response

    app.add_url_rule("/post", view_func=fail_at_commit, methods=["POST"])

    assert client.post("/post").status_code == 500
    assert saved() == []


def test_what_a_handler_of_500_writes_is_lost(app, client) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.errorhandler(500)
    def handle(_error):
        Thing(name="log").save()
        return "fine"

    @app.post("/post")
    def view():
        raise LookupError

    assert client.post("/post").status_code == 200
    assert saved() == []


def test_two_decisions_the_last_one_counts(app, client) -> None:
    @app.post("/post")
    def view():
        set_rollback(True)
        set_rollback(False)
        Thing(name="box").save()
        return "", 400

    client.post("/post")

    assert saved() == ["box"]


def fail_at_commit() -> Response:
    Thing(name="box").save()
    Part(thing_id=99).save()
    client_session["saved"] = "yes"
    flash("Saved!")
    get_flashed_messages()  # Flask keeps them for the rest of the request

    @after_this_request
    def mark(response):
        response.headers["X-Saved"] = "yes"
        response.set_cookie("saved", "yes")
        return response

    return redirect("/")


@pytest.mark.parametrize("status", [400, 409])
def test_a_failed_commit_takes_back_what_the_request_did_for_its_answer(app, client, caplog, status) -> None:
    caplog.set_level("DEBUG", "app")
    shown = []

    @app.errorhandler(IntegrityError)
    def handle(_error):
        shown.extend(get_flashed_messages())
        return "conflict", status

    app.add_url_rule("/post", view_func=fail_at_commit, methods=["POST"])
    with client.session_transaction() as before:
        before["cart"] = "full"

    response = client.post("/post")

    assert response.status_code == status
    assert "rollback because the commit failed: " in caplog.text
    assert shown == []
    assert not {"Location", "Set-Cookie", "X-Saved"} & {*response.headers.keys()}
    assert saved() == []
    with client.session_transaction() as after:
        assert dict(after) == {"cart": "full"}


@pytest.mark.parametrize(("error", "status"), [(None, 409), (RuntimeError("of the app"), 500)], ids=["known", "bug"])
def test_a_failed_commit_is_answered_by_a_problem(app, client, error, status) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.post("/post")
    def view():
        if error is not None:
            event.listen(session(), "before_commit", fail)
        return fail_at_commit()

    def fail(_session):
        raise error

    response = client.post("/post")

    assert (response.status_code, response.mimetype) == (status, "application/problem+json")
    assert response.json["status"] == status
    assert not {"Location", "Set-Cookie", "X-Saved"} & {*response.headers.keys()}
    assert saved() == []


def test_a_failed_commit_of_a_later_hook_is_answered_once_by_each_hook(app, client) -> None:
    app.register_error_handler(IntegrityError, lambda _: ("conflict", 409))
    answers = []

    @app.after_request
    def note(response):
        answers.append(response.status_code)
        if response.status_code == 200:
            session.add(Part(thing_id=99))
        return response

    app.add_url_rule("/post", view_func=lambda: "", methods=["POST"])

    assert client.post("/post").status_code == 409
    assert answers == [200, 409]


@pytest.mark.parametrize("secret", ["only for tests", None])
def test_the_handler_of_a_failed_commit_has_a_session_of_the_client(app, client, secret) -> None:
    app.secret_key = secret

    @app.errorhandler(IntegrityError)
    def handle(_error):
        if secret:
            flash("Not saved.")
        return str(client_session.get("saved")), 409

    @app.post("/post")
    def view():
        Part(thing_id=99).save()
        return ""

    app.add_url_rule("/flashed", view_func=lambda: get_flashed_messages())

    assert client.post("/post").text == "None"
    assert client.get("/flashed").json == (["Not saved."] if secret else [])


def test_what_the_handler_of_a_failed_commit_writes_is_lost(app, client) -> None:
    @app.errorhandler(IntegrityError)
    def handle(_error):
        set_rollback(False)
        Thing(name="handler").save()
        return "conflict", 409

    app.add_url_rule("/post", view_func=fail_at_commit, methods=["POST"])

    assert client.post("/post").status_code == 409
    assert saved() == []


def test_a_handler_of_a_failed_commit_that_fails_too_is_a_500(app, client) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False

    @app.errorhandler(IntegrityError)
    def handle(_error):
        raise LookupError

    app.add_url_rule("/post", view_func=fail_at_commit, methods=["POST"])

    assert client.post("/post").status_code == 500
    assert saved() == []


def test_the_response_of_a_failed_commit_is_closed(app, client) -> None:
    app.register_error_handler(IntegrityError, lambda _: ("conflict", 409))
    closed = []

    @app.post("/post")
    def view():
        Part(thing_id=99).save()
        response = Response("")
        response.call_on_close(lambda: closed.append(True))
        return response

    assert client.post("/post").status_code == 409
    assert closed == [True]


def test_session_commit_alone_leaves_the_session_usable_when_it_fails(app) -> None:
    with app.app_context():
        Part(thing_id=99).save()
        with pytest.raises(IntegrityError):
            session_commit(Response(""))
        assert Thing(name="box").save().id == 1
        session_commit(Response(""))

    assert saved() == ["box"]


def test_head_and_get_of_the_same_view_both_commit(app, client) -> None:
    @app.get("/get")
    def view():
        Thing(name=f"visit {len(saved())}").save()
        return ""

    client.get("/get")
    client.head("/get")

    assert saved() == ["visit 0", "visit 1"]


class ServerSession(CallbackDict, SessionMixin):
    """A session whose cookie holds no more than its id."""

    def __init__(self, sid, data):
        def on_update(changed):
            changed.modified = True

        super().__init__(data, on_update)
        self.sid, self.modified = sid, False


class ServerSessionInterface(SessionInterface):
    """Keep the sessions in a dict, as Redis would."""

    def __init__(self):
        self.store = {}

    def open_session(self, app, request):
        sid = request.cookies.get("session") or uuid4().hex
        return ServerSession(sid, pickle.loads(self.store.get(sid, pickle.dumps({}))))

    def save_session(self, app, session, response):
        if session.modified:
            self.store[session.sid] = pickle.dumps(dict(session))
            response.set_cookie("session", session.sid)


@pytest.fixture
def store(app) -> ServerSessionInterface:
    app.session_interface = ServerSessionInterface()

    @app.get("/visit")
    def visit():
        client_session["cart"] = ["apple"]
        return ""

    return app.session_interface


def test_a_session_on_the_server_forgets_what_a_failed_commit_left(app, client, store) -> None:
    @app.post("/save")
    def save():
        Thing(name="box").save()
        session.add(Thing(name="box"))
        client_session["cart"].append("pear")
        client_session["saved"] = True
        flash("Saved!")
        return redirect("/")

    client.get("/visit")
    answer = client.post("/save")

    assert answer.status_code == 409
    assert [pickle.loads(data) for data in store.store.values()] == [{"cart": ["apple"]}]
    assert saved() == []


def test_a_session_on_the_server_is_changed_once_by_a_repeated_request(app, client, store) -> None:
    runs = []

    @event.listens_for(session_factory, "before_commit")
    def lose(_session):
        if len(runs) == 1:
            raise conflict()

    @app.post("/save")
    def save():
        runs.append(1)
        Thing(name=f"run {len(runs)}").save()
        client_session["cart"] = [*client_session["cart"], "pear"]
        return ""

    client.get("/visit")
    try:
        assert client.post("/save").status_code == 200
    finally:
        event.remove(session_factory, "before_commit", lose)

    assert len(runs) == 2
    assert [pickle.loads(data) for data in store.store.values()] == [{"cart": ["apple", "pear"]}]


def test_an_error_that_is_answered_outside_a_request_cycle_decides_nothing(app) -> None:
    with app.test_request_context():
        answer = app.handle_user_exception(InternalServerError())

    assert app.make_response(answer).status_code == 500


def test_an_app_that_sets_nothing_has_the_defaults() -> None:
    own = Flask(__name__)
    session.init_app(own)
    transactions.init_app(own)

    @own.post("/")
    def view():
        return Thing(name=request.get_json()).save().name

    assert own.test_client().post("/", json="box").text == "box"
    assert saved() == ["box"]
    assert (own.config["TRANSACTION_ATTEMPTS"], own.config["TRANSACTION_MAX_BODY"]) == (10, 1_000_000)


class Unsendable(Response):
    """A response that makes its headers in a way of its own."""

    def get_wsgi_headers(self, _environ):
        """Fail."""
        raise LookupError


def with_headers(headers) -> Response:
    """Return a response whose headers were set past those who look at them."""
    response = Response("box")
    response.headers = headers
    return response


@pytest.mark.parametrize(
    "response",
    [
        lambda: Response("box", headers={"Content-Disposition": "attachment; filename=日本.pdf"}),
        lambda: Response("box", headers={"Content-Location": "http://[::"}),
        lambda: Response("box", headers={"content-location": "http://[::"}),
        lambda: Response("box", status="200 日"),
        lambda: with_headers([("X-Box", "a\nb"), ("Content-Length", "3")]),
        lambda: Response([1, 2]),
        lambda: Response([1, 2], headers={"Access-Control-Expose-Headers": "Content-Length"}),
        lambda: Unsendable("box"),
    ],
    ids=[
        "header",
        "location",
        "location in small letters",
        "status",
        "line",
        "body",
        "body of unknown length",
        "its own way",
    ],
)
def test_an_answer_that_cannot_be_sent_commits_nothing(app, client, response) -> None:
    @app.post("/")
    def view():
        Thing(name="box").save()
        return response()

    app.testing = False
    assert client.post("/").status_code == 500
    assert saved() == []


def test_it_commits_nothing_in_another_database_either(app, client, tmp_path) -> None:
    another = create_engine(f"sqlite:///{tmp_path}/another.sqlite3")
    Thing.metadata.create_all(another)

    @app.post("/")
    def view():
        Thing(name="box").save()
        return Unsendable("box")

    app.testing = False
    session_factory.configure(bind=another)
    try:
        assert client.post("/").status_code == 500
    finally:
        session_factory.configure(bind=engine)
    with another.connect() as connection:
        assert connection.execute(select(Thing)).all() == []
    another.dispose()


class Absolute(Response):
    """A response whose `Location` is made from the address of the request."""

    autocorrect_location_header = True


def test_an_answer_that_is_completed_from_the_request_commits(app, client) -> None:
    @app.post("/")
    def view():
        Thing(name="box").save()
        return Absolute(status=303, headers={"Location": "/box"})

    assert client.post("/").location == "http://localhost/box"
    assert saved() == ["box"]


def test_session_commit_obeys_the_view_wherever_it_is_called(app, client) -> None:
    app.after_request(session_commit)

    @app.post("/")
    def view():
        Thing(name="box").save()
        set_rollback(True)
        return ""

    assert client.post("/").status_code == 200
    assert saved() == []


def test_what_a_listener_writes_before_the_commit_of_a_request_that_only_reads_is_kept(app, client) -> None:
    app.add_url_rule("/read", view_func=lambda: str(session.scalars(select(Thing)).all()))

    @event.listens_for(session_factory, "before_commit")
    def note(committing):
        committing.add(Thing(name="visit"))

    try:
        client.get("/read")
    finally:
        event.remove(session_factory, "before_commit", note)

    assert saved() == ["visit"]


def test_a_transaction_from_outside_is_not_ended(app, client) -> None:
    app.add_url_rule("/read", view_func=lambda: str(session.scalars(select(Thing)).all()))
    with engine.connect() as connection, connection.begin() as outside:
        session_factory.configure(bind=connection)
        try:
            client.get("/read")
        finally:
            session_factory.configure(bind=engine)

        assert outside.is_active


@pytest.mark.parametrize("writer", ["nobody", "the request", "the lender"])
def test_a_connection_that_is_lent_is_not_committed(app, client, writer) -> None:
    write = insert(Thing).values(name="lent")

    @app.post("/")
    def view():
        session.execute(write if writer == "the request" else select(Thing), bind_arguments={"bind": lender})
        return ""

    with engine.connect() as lender, lender.begin() as lent:
        if writer == "the lender":
            lender.execute(write)
        assert client.post("/").status_code == 200
        assert lent.is_active
        lent.rollback()
    assert saved() == []


def test_an_error_before_the_request_is_dispatched_is_rolled_back(app, client) -> None:
    class Failing(BaseConverter):
        def to_python(self, value):
            Thing(name=value).save()
            raise LookupError

    app.url_map.converters["failing"] = Failing
    app.add_url_rule("/<failing:name>", view_func=lambda name: name)
    app.testing = False

    assert client.get("/box").status_code == 500
    assert saved() == []


@pytest.mark.parametrize("end", ["rollback", "close"])
def test_a_transaction_that_the_view_has_ended_by_hand_is_no_success(app, client, end) -> None:
    @app.post("/")
    def view():
        Thing(name="box").save()
        getattr(session.connection(), end)()
        return ""

    app.testing = False
    assert client.post("/").status_code == 500
    assert saved() == []


def test_a_view_that_has_only_read_may_end_its_transaction_by_hand(app, client) -> None:
    @app.get("/read")
    def view():
        session.scalars(select(Thing)).all()
        session.connection().rollback()
        return ""

    assert client.get("/read").status_code == 200


def test_a_flush_that_has_failed_before_any_statement_is_no_success(app, client) -> None:
    @app.post("/")
    def view():
        session.add(Thing(name="box"))
        with suppress(LookupError):
            session.flush()
        return ""

    def fail(*_):
        raise LookupError

    event.listen(Thing, "before_insert", fail)
    app.testing = False
    try:
        assert client.post("/").status_code == 500
    finally:
        event.remove(Thing, "before_insert", fail)


def test_a_listener_hears_of_the_commit_of_a_request_that_writes(app, client) -> None:
    heard = []

    @app.post("/")
    def view():
        Thing(name="box").save()
        return ""

    def listen(committed):
        with pytest.raises(InvalidRequestError, match="committed"):
            committed.execute(select(1))
        heard.append(committed)

    event.listen(session_factory, "after_commit", listen)
    try:
        assert client.post("/").status_code == 200
    finally:
        event.remove(session_factory, "after_commit", listen)
    assert len(heard) == 1


def test_a_listener_to_a_session_of_the_apps_own_making_hears_of_its_commit(app, client) -> None:
    heard = []

    class Own(AppSession):
        """A session with one listener."""

    event.listen(Own, "after_commit", heard.append)

    @app.post("/")
    def view():
        session.registry.set(Own(engine))
        Thing(name="box").save()
        return ""

    assert client.post("/").status_code == 200
    assert len(heard) == 1


@pytest.mark.parametrize("name", ["commit", "checkin"])
def test_what_is_asked_for_while_the_commit_goes_on_is_called(app, client, name) -> None:
    called = []
    target = engine if name == "commit" else engine.pool

    @app.post("/")
    def view():
        Thing(name="box").save()
        return ""

    def ask(*_):
        if not called:
            called.append("asked")
            on_commit(lambda: called.append("called"))

    event.listen(target, name, ask)
    try:
        assert client.post("/").status_code == 200
    finally:
        event.remove(target, name, ask)
    assert called == ["asked", "called"]


def test_who_listens_to_the_end_of_a_transaction_reads_what_is_there(app, client) -> None:
    read = []

    @app.post("/")
    def view():
        thing = Thing(name="box").save()
        session.execute(text("UPDATE things SET name = 'crate'"))
        g.thing = thing
        return ""

    def listen(_session, _transaction):
        if "thing" in g and not read:
            read.append("before")
            read.append(g.thing.name)

    event.listen(session_factory, "after_transaction_end", listen)
    try:
        client.post("/")
    finally:
        event.remove(session_factory, "after_transaction_end", listen)
    assert read == ["before", "crate"]


def test_a_deleted_object_is_detached_by_the_commit(app, client) -> None:
    things = []
    states = []

    @app.post("/")
    def view():
        things.append(Thing(name="box").save())
        things[0].delete()
        states.append(inspect(things[0]).detached)
        return ""

    @app.teardown_request
    def look(_error):
        states.append(inspect(things[0]).detached)

    client.post("/")
    assert states == [False, True]


@pytest.mark.parametrize("of", ["class", "session"])
def test_a_commit_of_the_apps_own_is_called(app, client, monkeypatch, of) -> None:
    @app.post("/")
    def view():
        Thing(name="box").save()
        monkeypatch.setattr(Session if of == "class" else session(), "commit", fail)
        return ""

    def fail(*_):
        raise LookupError

    app.testing = False
    assert client.post("/").status_code == 500
    assert saved() == []


def test_what_was_written_is_read_again_after_the_commit(app, client) -> None:
    @app.post("/")
    def view():
        thing = Thing(name="box").save()

        def body():
            with session_factory.begin() as other:
                other.execute(update(Thing).values(name="crate"))
            yield thing.name

        return Response(body())

    assert client.post("/").text == "crate"
