"""Factories of rows for the tests: `new_user = factory(User, name="Ada", ...)`, then `new_user(name="Grace")`."""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, TypeVar

from app.models import Base

M = TypeVar("M", bound=Base)


def factory(model: type[M], **defaults: Any) -> Callable[..., M]:
    """Return a function that saves a row of `model`, with `defaults` where it is not told other values.

    A default that is a function is called with a number that no other row of this factory has.
    """
    numbers = count(1)

    def new(**values: Any) -> M:
        number = next(numbers)
        filled: Mapping[str, Any] = {
            name: default(number) if callable(default) else default
            for name, default in defaults.items()
            if name not in values
        }
        return model(**filled, **values).save()

    return new
