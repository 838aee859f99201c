"""Rules of the JSON API that a generated project does not test itself."""

import pytest
from app.api.fields import Answer, Body, Text, stored_in
from app.api.resource import Resource
from tests.things import Thing, saved

pytestmark = pytest.mark.usefixtures("things")
resource = Resource("things", __name__)


class NewThing(Body):
    name: Text = stored_in(Thing.name)


class ThingAnswer(Answer):
    id: int
    name: str


@resource.post("", responses={201: ThingAnswer})
async def create(body: NewThing) -> tuple[ThingAnswer, int]:
    return ThingAnswer.model_validate(Thing(name=body.name).save()), 201


@resource.post("/wrong")
def answer_wrongly(body: NewThing) -> ThingAnswer:
    Thing(name=body.name).save()
    return ThingAnswer.model_validate({})


def test_a_view_may_be_async(app, client) -> None:
    app.register_blueprint(resource)

    assert client.post("/things", json={"name": "box"}).json == {"id": 1, "name": "box"}
    assert client.post("/things", data="{", content_type="application/json").status_code == 400
    assert saved() == ["box"]


def test_an_answer_that_does_not_match_its_type_is_a_mistake_of_the_app(app, client, caplog) -> None:
    app.config["PROPAGATE_EXCEPTIONS"] = False
    app.register_blueprint(resource)

    response = client.post("/things/wrong", json={"name": "box"})

    assert (response.status_code, response.mimetype) == (500, "application/problem+json")
    assert "ThingAnswer" not in response.text
    assert "ThingAnswer" in caplog.text
    assert saved() == []


def test_one_api_may_be_part_of_two_apps(app, client) -> None:
    from app import create_app

    other = create_app({"TESTING": True, "SECRET_KEY": "another"})
    app.register_blueprint(resource)
    other.register_blueprint(resource)

    for one in (client, other.test_client()):
        assert one.post("/things", json={}).status_code == 422
        assert "/things" in one.get("/openapi.json").json["paths"]
