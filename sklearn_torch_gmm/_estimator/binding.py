"""Functions of one module as members of a class in another module."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, cast

Value = TypeVar("Value")


class computed(Generic[Value]):
    """A property that a subclass, or an instance, may replace by a value of its own."""

    def __init__(self, function: Callable[[Any], Value]) -> None:
        self.fget = function
        self.__doc__ = function.__doc__

    def __get__(self, instance: object, owner: type) -> Value:
        return cast(Value, self) if instance is None else self.fget(instance)


if TYPE_CHECKING:
    P = ParamSpec("P")
    Instance = TypeVar("Instance")

    class constructor(Generic[P]):
        """A ``classmethod`` that mypy knows to return an instance of the class."""

        def __init__(self, function: Callable[Concatenate[Any, P], Any]) -> None: ...

        def __get__(self, instance: object, owner: type[Instance]) -> Callable[P, Instance]: ...

else:
    constructor = classmethod
