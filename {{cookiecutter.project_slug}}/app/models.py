"""The models: `Base`, which all of them share, and a class for each table. Begin with `User`: it is yours."""

from datetime import datetime
from typing import Any, ClassVar, Self

from sqlalchemy import MetaData, String, event, inspect
from sqlalchemy.orm import DeclarativeBase, Mapped, Mapper, QueryPropertyDescriptor, mapped_column, validates
from sqlalchemy.orm.exc import StaleDataError

from app.columns import TYPES, can_be_set, utc_now
from app.db import session
from app.savepoints import flush_alone


class Base(DeclarativeBase):
    """What every model can do. The methods write to the database; only the end of the request commits."""

    # Every constraint has a name: a migration can then drop it on any database.
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = TYPES

    query: ClassVar[QueryPropertyDescriptor] = session.query_property()
    """`User.query.filter_by(...)`, SQLAlchemy's older style; new code writes `session.scalars(select(User))`."""

    def save(self) -> Self:
        """Insert or update the row and return the object.

        :raises sqlalchemy.exc.DBAPIError: if the database refuses; what was saved before stays.
        """
        current = session()
        flush_alone(current, self, lambda: current.add(self))
        return self

    def update(self, **values: Any) -> Self:
        """Set attributes, save and return the object.

        :raises TypeError: for a name under which the model has nothing to set; nothing is changed.
        :raises sqlalchemy.exc.DBAPIError: if the database refuses; the object is then as it was in the database.
        """
        unknown = sorted(name for name in values if not can_be_set(type(self), name))
        if unknown:
            raise TypeError(f"{type(self).__name__} has no attribute {', '.join(map(repr, unknown))}.")
        current = session()

        def change() -> None:
            current.add(self)
            for name, value in values.items():
                setattr(self, name, value)

        flush_alone(current, self, change)
        return self

    def delete(self) -> None:
        """Delete the row.

        :raises sqlalchemy.exc.InvalidRequestError: if there is none yet; a new object is still to be saved.
        :raises sqlalchemy.exc.DBAPIError: if the database refuses; the object is then as it was.
        """
        current = session()
        if not inspect(self, raiseerr=True).has_identity:
            current.delete(self)  # which refuses it: there is nothing to undo
        flush_alone(current, self, lambda: current.delete(self))


class OutdatedError(StaleDataError):
    """A change to a row of which the client has seen an older version: it must load the row again. The answer is 409."""


class Versioned(Base):
    """A model that counts its changes, `class Page(Versioned)`, so that nobody changes what he has not seen.

    The client is shown `version` and sends it back: `page.update(version=seen, text=...)`.
    """

    __abstract__ = True

    version: Mapped[int] = mapped_column(default=1)

    def update(self, **values: Any) -> Self:
        """Set attributes, save and return the object; a `version` among them is the one that the client has seen.

        :raises OutdatedError: if the row has another version; nothing is changed.
        :raises sqlalchemy.exc.DBAPIError: if the database refuses; the object is then as it was in the database.
        """
        seen = values.pop("version", self.version)
        if str(seen) != str(self.version):  # a form sends text
            raise OutdatedError(f"{self!r} has version {self.version}, and the change was made to version {seen}.")
        return super().update(**values)


@event.listens_for(Versioned, "instrument_class", propagate=True)
def _count_versions(mapper: Mapper[Any], _model: type[Any]) -> None:
    """Let SQLAlchemy count in the column, and compare it in each UPDATE and DELETE; the model may have `__mapper_args__`."""
    if mapper.version_id_col is None:
        mapper.version_id_col = mapper.local_table.c["version"]


class User(Base):
    """Somebody who uses the app."""

    __tablename__ = "users"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(String(100))
    email: Mapped[str] = mapped_column(String(254), unique=True)
    created_at: Mapped[datetime] = mapped_column(default=utc_now)

    @validates("email")
    def _lower_case(self, _name: str, email: str) -> str:
        """Store an address in one way: databases differ in whether letters of another case are another address."""
        return email.lower()

    def __repr__(self) -> str:
        """Return the user as the shell and the logs show it."""
        return f"<User {self.id}>"
