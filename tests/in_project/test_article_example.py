"""The examples of "Abstracting away session handling in Flask/SQLAlchemy" run in a generated app, under its names."""

from unittest import TestCase

import pytest
from app.db import engine, session
from app.models import Base as MyModel
from app.transactions import session_commit
from flask import Flask
from sqlalchemy import MetaData
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Mapped, mapped_column

pytestmark = pytest.mark.filterwarnings(
    "ignore:The Query.get.. method is considered legacy:sqlalchemy.exc.LegacyAPIWarning"
)


class ArticleModel(MyModel):
    __abstract__ = True
    metadata = MetaData()


class UserModel(ArticleModel):
    __tablename__ = "article_users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class MyTest(TestCase):
    def setUp(self):
        super().setUp()
        session.remove()
        ArticleModel.metadata.drop_all(engine)
        ArticleModel.metadata.create_all(engine)

    def test_models_save_update_and_delete(self):
        UserModel(id=1234, name="Foo Bar").save()
        user = UserModel.query.get(1234)
        user.update(name="Bat")
        assert UserModel.query.filter_by(name="Bat").count() == 1
        user.delete()
        assert UserModel.query.count() == 0

    def test_a_failed_flush_raises_and_the_session_goes_on(self):
        UserModel(name="Foo").save()
        with pytest.raises(DatabaseError):
            UserModel(name="Foo").save()
        assert UserModel.query.count() == 1

    def test_a_script_commits_at_the_end(self):
        UserModel(name="Foo").save()
        session.commit()
        session.remove()
        assert UserModel.query.count() == 1

    def test_session_commit_is_an_after_request_function(self):
        app = Flask(__name__)
        session.init_app(app)
        app.after_request(session_commit)

        @app.post("/<name>/<int:status>")
        def save(name, status):
            UserModel(name=name).save()
            return "", status

        client = app.test_client()
        assert client.post("/kept/200").status_code == 200
        assert client.post("/undone/400").status_code == 400
        assert [user.name for user in UserModel.query] == ["kept"]
