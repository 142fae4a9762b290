"""A property that is computed once for each object, without a lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

Value = TypeVar("Value")


class cached_property(Generic[Value]):
    """Like the one of `functools`, which holds a lock while it computes, before Python 3.12.

    All objects of a class share that lock: a process that is forked while another thread computes
    would wait for it indefinitely. Without it, two threads may compute the same value.
    """

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self._function = function
        self._name = function.__name__
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type) -> Value:
        if instance is None:
            return cast(Value, self)
        value = self._function(instance)
        # An attribute of the object comes before this one, which has no `__set__`.
        instance.__dict__[self._name] = value
        return value
