"""The command `flask seed`: example rows to look at while you develop."""

import click
from flask.cli import with_appcontext
from sqlalchemy import select

from app.db import session
from app.models import User

PEOPLE = {"ada@example.com": "Ada Lovelace", "grace@example.com": "Grace Hopper"}


@click.command()
@with_appcontext
def seed() -> None:
    """Put example rows in the database; those that are there already stay as they are."""
    for email, name in PEOPLE.items():
        if session.scalar(select(User).where(User.email == email)) is None:
            user = User(name=name, email=email).save()
            click.echo(f"{user.name}: /users/{user.id}")
    session.commit()
