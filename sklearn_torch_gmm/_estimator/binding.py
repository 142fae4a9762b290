"""Functions of one module as class methods of a class in another."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    P = ParamSpec("P")
    Instance = TypeVar("Instance")

    class constructor(Generic[P]):
        """A ``classmethod`` that mypy knows to return an instance of the class."""

        def __init__(self, function: Callable[Concatenate[Any, P], Any]) -> None: ...

        def __get__(self, instance: object, owner: type[Instance]) -> Callable[P, Instance]: ...

else:
    constructor = classmethod
