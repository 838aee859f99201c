"""An app to serve: it counts, adds rows, tells who it is, and loses its connection when it is told to."""

import os

from app import create_app
from app.db import engine, session
from app.transactions import attempts
from flask import Flask, request
from rules.conftest import BACKEND, Thing, kill
from sqlalchemy import event, select, text

if os.environ.get("CONNECT_BEFORE_FORK"):
    with engine.connect() as connection:
        connection.scalar(text("SELECT 1"))

app: Flask = create_app({"SECRET_KEY": "only for tests"})


@app.post("/increment")
def increment() -> str:
    counter = session.get_one(Thing, 1)
    counter.update(size=counter.size + 1)
    return ""


@app.post("/rows/<name>")
def add(name: str) -> tuple[str, int]:
    session.scalar(select(Thing.size).where(Thing.id == 1))
    Thing(name=name).save()
    return "", 201


@app.get("/who")
def who() -> dict[str, int]:
    return {"process": os.getpid(), "backend": session.scalar(text(BACKEND)) or 0}


@app.post("/killed/<when>/<name>")
@attempts(int(os.environ.get("ATTEMPTS", "10")))
def killed(when: str, name: str) -> tuple[str, int]:
    runs = request.environ["app.attempt"].number
    if when == "before":
        kill(session.connection())
    Thing(name=f"{name} {runs}").save()
    if when == "after":
        kill(session.connection())
    if when == "commit":
        event.listen(engine, "commit", kill, once=True)
    return "", 201
