"""The examples of Flask-SQLAlchemy-Session run in a generated app: on an app and a session factory of their own."""

import flask
import pytest
from app.db import current_session, flask_scoped_session
from flask import Flask, abort
from sqlalchemy import Column, Integer, String, create_engine
from sqlalchemy.ext.declarative import declarative_base
from sqlalchemy.orm import sessionmaker

pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``declarative_base:sqlalchemy.exc.MovedIn20Warning"),
    pytest.mark.filterwarnings("ignore:The Query.get.. method is considered legacy:sqlalchemy.exc.LegacyAPIWarning"),
]


@pytest.mark.parametrize("accessor", ["session", "current_session"])
@pytest.mark.parametrize("late", [False, True], ids=["given the app", "init_app"])
def test_the_full_example(accessor: str, late: bool) -> None:
    Base = declarative_base()  # noqa: N806 (its name there)

    class User(Base):
        __tablename__ = "user"
        id = Column(Integer, primary_key=True)
        name = Column(String)

        def to_dict(self):
            return {"id": self.id, "name": self.name}

    engine = create_engine("sqlite://")
    session_factory = sessionmaker(bind=engine)
    Base.metadata.create_all(engine)
    with session_factory.begin() as other:
        other.add(User(name="Ada"))

    app = Flask(__name__)
    if late:
        session = flask_scoped_session(session_factory)
        session.init_app(app)
    else:
        session = flask_scoped_session(session_factory, app)

    @app.route("/users/<int:user_id>")
    def user(user_id):
        users = {"session": session, "current_session": current_session}[accessor]
        user = users.query(User).get(user_id)
        if user is None:
            abort(404)
        return flask.jsonify(**user.to_dict())

    assert app.test_client().get("/users/1").json == {"id": 1, "name": "Ada"}
    assert app.test_client().get("/users/2").status_code == 404
    engine.dispose()
