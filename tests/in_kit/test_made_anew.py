"""Tests that leave nothing but rows and ids: the kit is to bring back what was there without making the database anew."""

import os
from collections.abc import Callable

import pytest

from tests import DATABASE, test_hostile

OF_ROWS = [
    test_hostile.leave_rows,
    test_hostile.leave_rows_of_a_thread,
    test_hostile.leave_a_family,
    test_hostile.leave_another_family,
    test_hostile.leave_a_circle,
    test_hostile.leave_what_has_no_number,
    test_hostile.leave_rows_in_a_table_with_an_odd_name,
    test_hostile.leave_rows_in_partitions,
    test_hostile.move_a_row_to_another_partition,
    test_hostile.add_to_a_partition_of_a_filled_table,
    test_hostile.leave_many,
    test_hostile.copy_rows,
    test_hostile.roll_rows_back,
    test_hostile.fail_to_insert,
    test_hostile.take_numbers,
    test_hostile.set_a_number_that_is_not_given_yet,
    test_hostile.set_a_number_of_what_was_not_written,
    test_hostile.take_a_number_of_rows_of_the_migrations,
    test_hostile.take_a_number_of_a_sequence,
    test_hostile.leave_a_large_object,
    test_hostile.leave_a_temporary_table,
]

made_anew: list[str] = []


def noted(name: str) -> Callable[[], None]:
    """Return a method of the database, so that its calls are noted."""
    method = getattr(DATABASE, name)

    def call() -> None:
        made_anew.append(f"{name} after {os.environ['PYTEST_CURRENT_TEST']}")
        method()

    return call


for name in {"rebuild", "_overwrite", "_replace"} & set(dir(DATABASE)):
    setattr(DATABASE, name, noted(name))


@pytest.mark.parametrize("deed", OF_ROWS, ids=lambda deed: deed.__name__)
def test_rows(deed) -> None:
    deed()


def test_was_not_made_anew() -> None:
    assert made_anew == []


def test_changes_the_schema() -> None:
    test_hostile.add_a_column()


def test_was_made_anew() -> None:
    assert made_anew != []
