"""What `save`, `update` and `delete` leave when they fail, in the corners."""

from contextlib import suppress
from typing import ClassVar

import pytest
from app.db import engine, session, session_factory
from app.models import Base, OutdatedError, Versioned
from app.transactions import transaction
from sqlalchemy import ForeignKey, MetaData, String, event, insert, select, text
from sqlalchemy.exc import IntegrityError, InvalidRequestError, StatementError
from sqlalchemy.ext.hybrid import hybrid_method, hybrid_property
from sqlalchemy.orm import Mapped, WriteOnlyMapped, column_property, mapped_column, relationship, validates
from sqlalchemy.orm.exc import StaleDataError
from tests.things import Thing

pytestmark = pytest.mark.usefixtures("things")


class Tables(Base):
    __abstract__ = True
    metadata = MetaData()


class Parent(Tables):
    __tablename__ = "parents"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    age: Mapped[int] = mapped_column(default=0)
    children: Mapped[list["Child"]] = relationship(back_populates="parent", passive_deletes="all")
    shown: Mapped[list["Child"]] = relationship(viewonly=True)
    doubled: Mapped[int] = column_property(age * 2)

    @validates("age")
    def check_age(self, _key, age):
        if age < 0:
            raise ValueError("age below zero")
        return age

    @property
    def shout(self):
        return self.name.upper()

    @property
    def whisper(self):
        return self.name.lower()

    @whisper.setter
    def whisper(self, name):
        self.name = name.lower()

    @hybrid_property
    def is_old(self):
        return self.age > 99

    @hybrid_property
    def years(self):
        return self.age

    @years.inplace.setter
    def _set_years(self, years):
        self.age = years

    @hybrid_method
    def is_older(self, age):
        return self.age > age


class Child(Tables):
    __tablename__ = "children"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    parent_id: Mapped[int] = mapped_column(ForeignKey("parents.id", ondelete="RESTRICT"))
    parent: Mapped[Parent] = relationship(back_populates="children")


class Animal(Versioned):
    __tablename__ = "animals"
    metadata = Tables.metadata
    id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[str]
    age: Mapped[int] = mapped_column(default=0)
    __mapper_args__: ClassVar = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}


class Cat(Animal):
    lives: Mapped[int | None]
    __mapper_args__: ClassVar = {"polymorphic_identity": "cat"}


class Shelf(Tables):
    __tablename__ = "shelves"
    id: Mapped[int] = mapped_column(primary_key=True)
    boxes: Mapped[list["Box"]] = relationship()


class Rack(Tables):
    __tablename__ = "racks"
    id: Mapped[int] = mapped_column(primary_key=True)
    bottles: WriteOnlyMapped["Bottle"] = relationship()


class Bottle(Tables):
    __tablename__ = "bottles"
    id: Mapped[int] = mapped_column(primary_key=True)
    rack_id: Mapped[int | None] = mapped_column(ForeignKey("racks.id"))


class Box(Tables):
    __tablename__ = "boxes"
    id: Mapped[int] = mapped_column(primary_key=True)
    label: Mapped[str | None] = mapped_column(String(20), unique=True)
    shelf_id: Mapped[int | None] = mapped_column(ForeignKey("shelves.id"))


@pytest.fixture(autouse=True)
def tables() -> None:
    Tables.metadata.create_all(engine)


def committed(column) -> list:
    session.commit()
    with session_factory() as other:
        return list(other.scalars(select(column).order_by(column)))


def test_the_first_statement_that_fails_leaves_a_session_that_works() -> None:
    Parent(name="a").save()
    session.commit()

    with pytest.raises(IntegrityError):
        Parent(name="a").save()
    Parent(name="b").save()

    assert committed(Parent.name) == ["a", "b"]


def test_the_first_statement_that_fails_keeps_what_was_added() -> None:
    Parent(name="a").save()
    session.commit()
    session.add(Parent(name="added"))

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    assert committed(Parent.name) == ["a", "added"]


def test_a_failed_delete_keeps_parent_and_child() -> None:
    parent = Parent(name="a").save()
    Child(name="c", parent=parent).save()

    with pytest.raises(IntegrityError):
        parent.delete()

    assert parent in session
    assert committed(Parent.name) == ["a"]
    assert committed(Child.name) == ["c"]


def test_a_failed_save_keeps_an_unsaved_delete_of_another() -> None:
    Parent(name="a").save()
    doomed = Parent(name="doomed").save()
    session.delete(doomed)

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    assert committed(Parent.name) == ["a"]


def test_a_child_that_fails_leaves_its_parent_and_its_brothers() -> None:
    parent = Parent(name="a").save()
    Child(name="c", parent=parent).save()
    bad = Child(name="c")
    parent.children.append(bad)

    with pytest.raises(IntegrityError):
        bad.save()

    assert [child.name for child in parent.children] == ["c"]
    assert committed(Child.name) == ["c"]


def test_a_relationship_that_was_changed_on_another_is_kept() -> None:
    one, two = Parent(name="one").save(), Parent(name="two").save()
    child = Child(name="c", parent=one).save()
    child.parent = two

    with pytest.raises(IntegrityError):
        Parent(name="one").save()

    assert committed(Child.parent_id) == [two.id]


def test_a_child_that_fails_leaves_other_changes_of_its_parent() -> None:
    parent = Parent(name="a").save()
    Child(name="c", parent=parent).save()
    assert len(parent.children) == 1
    parent.age = 9

    with pytest.raises(IntegrityError):
        Child(name="c", parent=parent).save()

    assert committed(Parent.age) == [9]


def test_what_was_added_to_a_collection_is_kept() -> None:
    parent = Parent(name="a").save()
    parent.children.append(Child(name="c"))

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    assert [child.name for child in parent.children] == ["c"]
    assert committed(Child.parent_id) == [parent.id]


def test_what_was_taken_from_a_collection_stays_away() -> None:
    Parent(name="a").save()
    shelf = Shelf(boxes=[Box(), Box()]).save()
    shelf.boxes.pop()

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    assert committed(Box.shelf_id) == [None, 1]


def test_what_was_put_into_a_collection_that_no_attribute_mirrors_is_kept() -> None:
    Parent(name="a").save()
    shelf = Shelf(boxes=[Box()]).save()
    box = Box().save()
    shelf.boxes.append(box)

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    assert committed(Box.shelf_id) == [1, 1]


def test_what_was_put_into_a_collection_that_is_not_loaded_and_taken_from_it_is_kept() -> None:
    Parent(name="a").save()
    first, second = Bottle(), Bottle()
    rack = Rack(bottles=[first]).save()
    rack.bottles.remove(first)
    rack.bottles.add(second)

    with pytest.raises(IntegrityError):
        Parent(name="a").save()

    session.commit()
    assert (first.rack_id, second.rack_id) == (None, rack.id)


def test_an_object_that_fails_is_back_where_it_was_taken_from() -> None:
    box = Box().save()
    shelf = Shelf(boxes=[Box(label="taken"), box]).save()
    shelf.boxes.remove(box)

    with pytest.raises(IntegrityError):
        box.update(label="taken")

    assert committed(Box.shelf_id) == [1, 1]


def test_a_change_that_failed_is_not_tried_again(caplog) -> None:
    Parent(name="a").save()
    parent = Parent(name="b").save()
    parent.name = "a"

    with pytest.raises(IntegrityError):
        parent.save()

    assert "dropped the changes" not in caplog.text


def test_a_change_that_needs_another_one_first_is_kept(caplog) -> None:
    one = Parent(name="one").save()
    one.name = "two"
    session.add(Parent(name="one"))

    with pytest.raises(IntegrityError):
        Child(name="c", parent_id=99).save()

    assert committed(Parent.name) == ["one", "two"]
    assert "dropped the changes" not in caplog.text


def test_one_bad_change_does_not_take_the_others_with_it() -> None:
    parent = Parent(name="a").save()
    parent.age = 4
    session.add(Parent(name="a"))
    session.add(Parent(name="b"))

    with pytest.raises(IntegrityError):
        Parent(name="c").save()

    assert committed(Parent.name) == ["a", "b"]
    assert parent.age == 4


def test_an_error_that_is_not_of_the_database_undoes_no_more() -> None:
    Parent(name="a").save()
    session.add(Child(name="refused", parent_id=1))

    def refuse(_mapper, _connection, _child):
        raise ValueError("refused")

    event.listen(Child, "before_insert", refuse)
    try:
        with pytest.raises(ValueError, match="refused"):
            Parent(name="b").save()
    finally:
        event.remove(Child, "before_insert", refuse)

    assert committed(Parent.name) == ["a"]


def test_a_validator_that_refuses_leaves_the_object_as_it_was() -> None:
    parent = Parent(name="a", age=1).save()

    with pytest.raises(ValueError, match="age below zero"):
        parent.update(name="b", age=-1)

    assert (parent.name, parent.age) == ("a", 1)
    assert committed(Parent.name) == ["a"]


@pytest.mark.parametrize("model", [Animal, Cat])
def test_a_model_with_mapper_arguments_of_its_own_counts_its_versions_too(model) -> None:
    animal = model().save()
    animal.update(version=1, age=7)

    assert animal.version == 2
    with pytest.raises(OutdatedError):
        animal.update(version=1, age=8)
    session.execute(text("UPDATE animals SET version = 3"))
    with pytest.raises(StaleDataError):
        animal.update(age=8)


class Coded(Tables):
    __tablename__ = "coded"
    code: Mapped[str] = mapped_column(String(20), primary_key=True)
    name: Mapped[str] = mapped_column(String(20), unique=True)
    note: Mapped[str | None] = mapped_column(String(20))


def test_a_save_that_fails_keeps_the_new_key_of_another_object() -> None:
    first, second = Coded(code="1", name="a").save(), Coded(code="2", name="b").save()
    session.commit()
    first.name, second.name  # noqa: B018 (they are read)
    first.code, first.note = "renamed", "kept"

    with pytest.raises(IntegrityError):
        second.update(name="a")

    session.commit()
    assert session.execute(select(Coded.code, Coded.name, Coded.note).order_by(Coded.name)).all() == [
        ("renamed", "a", "kept"),
        ("2", "b", None),
    ]


def test_a_save_that_fails_keeps_another_object_whose_version_was_set_by_hand(caplog) -> None:
    animal = Animal().save()
    session.commit()
    animal.version, animal.age = animal.version + 5, 7

    with pytest.raises(IntegrityError):
        Child(name="no parent", parent_id=99).save()

    assert committed(Animal.age) == [7]
    assert caplog.messages == []


def test_a_value_of_the_wrong_type_leaves_the_object_as_it_was() -> None:
    thing = Thing(name="box").save()

    with pytest.raises(StatementError):
        thing.update(size=object())

    assert thing.size == 0
    assert committed(Thing.name) == ["box"]


def test_update_of_a_new_object_saves_it() -> None:
    assert Parent().update(name="a").id == 1
    assert committed(Parent.name) == ["a"]


def test_update_knows_columns_relationships_and_what_has_a_setter_and_nothing_else() -> None:
    parent = Parent(name="a").save()
    child = Child(name="c", parent=parent).save()

    child.update(parent=Parent(name="b"))
    assert child.parent.name == "b"
    parent.update(whisper="A", years=7)
    assert (parent.name, parent.age) == ("a", 7)
    for name in (
        "shout",
        "shown",
        "doubled",
        "is_old",
        "is_older",
        "metadata",
        "_sa_instance_state",
        "save",
        "missing",
    ):
        with pytest.raises(TypeError, match=f"Parent has no attribute '{name}'"):
            parent.update(**{name: "x"})


def test_delete_of_an_object_that_was_never_saved_is_refused() -> None:
    Parent(name="a").save()

    with pytest.raises(InvalidRequestError):
        Parent(name="b").delete()

    assert committed(Parent.name) == ["a"]


@pytest.mark.parametrize("begun", [False, True])
def test_a_failed_save_within_a_savepoint_of_the_user_keeps_that_savepoint(begun) -> None:
    first = Parent(name="a").save()
    session.commit()
    if begun:
        session.add(first)  # sends nothing
    with session.begin_nested():
        with pytest.raises(IntegrityError):
            Parent(name="a").save()
        Parent(name="b").save()

    assert committed(Parent.name) == ["a", "b"]


def test_a_failed_save_within_a_transaction_begun_by_hand_keeps_it() -> None:
    Parent(name="a").save()
    session.commit()
    with session.begin():
        with pytest.raises(IntegrityError):
            Parent(name="a").save()
        Parent(name="b").save()

    assert committed(Parent.name) == ["a", "b"]


def save(thing: Thing) -> None:
    thing.save()


def flush(thing: Thing) -> None:
    session.add(thing)
    session.flush()


def execute(thing: Thing) -> None:
    session.execute(insert(Thing).values(name=thing.name))


@pytest.fixture
def ends(things: None) -> None:
    """A trigger with which SQLite ends the transaction that writes something bad, as a full disk does."""
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER ends BEFORE INSERT ON things WHEN NEW.name = 'bad'"
            " BEGIN SELECT RAISE(ROLLBACK, 'ended'); END"
        )


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("write", [save, execute])
def test_a_transaction_that_the_database_has_ended_commits_nothing_of_what_follows(write) -> None:
    Thing(name="box").save()

    with pytest.raises(IntegrityError, match="ended"):
        write(Thing(name="bad"))
    Thing(name="more").save()
    with pytest.raises(IntegrityError, match="ended"):
        session.commit()
    session.rollback()

    assert committed(Thing.name) == []
    Thing(name="next").save()
    session.commit()
    assert committed(Thing.name) == ["next"]


@pytest.mark.usefixtures("ends")
@pytest.mark.parametrize("write", [save, flush, execute])
def test_the_error_that_has_ended_a_transaction_is_what_the_blocks_in_it_raise(write) -> None:
    def work() -> None:
        with transaction():
            Thing(name="box").save()
            with transaction(), session.begin_nested():
                write(Thing(name="bad"))

    with pytest.raises(IntegrityError, match="ended"):
        work()

    assert committed(Thing.name) == []


@pytest.mark.usefixtures("ends")
def test_a_savepoint_around_the_error_that_has_ended_a_transaction_hides_it_from_nobody() -> None:
    def work() -> None:
        with transaction(), session.begin_nested():
            with suppress(IntegrityError), session.begin_nested():
                execute(Thing(name="bad"))
            Thing(name="more").save()

    with pytest.raises(IntegrityError, match="ended"):
        work()

    assert committed(Thing.name) == []


def test_a_save_sends_one_statement_when_it_is_the_first_and_no_more_than_three_later() -> None:
    sent = []
    event.listen(engine, "before_cursor_execute", lambda _c, _u, statement, *_: sent.append(statement.split()[0]))

    Parent(name="a").save()
    assert sent == ["INSERT"]
    Parent(name="b").save()
    assert sent[1:] == ["SAVEPOINT", "INSERT", "RELEASE"]
    session.rollback()
    del sent[:]
    session.execute(text("SELECT 1"))
    Parent(name="c").save()
    assert sent == ["SELECT", "SAVEPOINT", "INSERT", "RELEASE"]


class Account(Tables):
    __tablename__ = "accounts"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    secret: Mapped[str | None]

    @validates("secret")
    def hash(self, _key, secret):
        return None if secret is None else f"hashed {secret}"


@pytest.mark.parametrize("is_new", [True, False])
def test_a_failed_save_runs_no_validator_of_another_object_again(is_new) -> None:
    Parent(name="first").save()
    session.commit()
    other = Account(name="other")
    if is_new:
        session.add(other)
    else:
        other.save()
        session.commit()
    other.secret = "word"

    with pytest.raises(IntegrityError):
        Parent(name="first").save()
    session.commit()

    assert session.execute(select(Account.name, Account.secret)).all() == [("other", "hashed word")]


def test_a_new_object_that_is_deleted_is_refused_and_still_saved() -> None:
    thing = Thing(name="box")
    session.add(thing)

    with pytest.raises(InvalidRequestError, match="is not persisted"):
        thing.delete()
    session.commit()

    assert session.scalars(select(Thing.name)).all() == ["box"]
