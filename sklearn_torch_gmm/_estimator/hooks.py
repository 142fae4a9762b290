"""Subclasses that override hooks of scikit-learn's mixture, whose own methods then run.

scikit-learn's methods call each other, and a subclass may override any of them: with an `_m_step`
that keeps the weights equal, an `_estimate_log_prob` of another density, a `fit_predict` that sorts
the components. The hooks of each method are found in the code of scikit-learn's class.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Iterator
from functools import lru_cache, wraps
from types import CodeType
from typing import Any, TypeVar, cast

from sklearn.base import BaseEstimator

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.outcome import as_before_on_failure
from sklearn_torch_gmm._estimator.vocabulary import NOT_SCIKIT_LEARNS
from sklearn_torch_gmm.rows.kinds import is_read_in_pieces

Method = TypeVar("Method", bound=Callable[..., Any])

ONLY_OURS = ("batch_size", "num_workers", "trainer_params", "fixed", "acceleration")
"""Parameters that scikit-learn's class does not have; the defaults change nothing."""

PACKAGE = __name__.partition(".")[0]

FITS = ("fit", "fit_predict", "partial_fit")


def open_to_hooks(method: Method) -> Method:
    """Return a method that calls scikit-learn's if one of the hooks of that is overridden."""
    name, signature = method.__name__, inspect.signature(method)

    @wraps(method)
    def either(self: BaseEstimator, *args: Any, **kwargs: Any) -> Any:
        hooks = overridden_hooks(self, name)
        if not hooks:
            return method(self, *args, **kwargs)
        given = signature.bind(self, *args, **kwargs).arguments
        del given["self"]
        theirs = getattr(self._counterpart, name, None)
        # If scikit-learn has no such method, the override cannot take effect.
        known = set(inspect.signature(theirs).parameters) if theirs else set()
        _check_honoured(self, hooks, name, given, known)
        own = {key: value for key, value in given.items() if key in known}
        if name not in FITS:
            return cast(Method, theirs)(self, **own)
        with as_before_on_failure(self):
            # scikit-learn's loop would leave the attributes of an earlier fit.
            for attribute in NOT_SCIKIT_LEARNS:
                vars(self).pop(attribute, None)
            return cast(Method, theirs)(self, **own)

    return cast(Method, either)


def _check_honoured(
    mixture: BaseEstimator,
    hooks: tuple[str, ...],
    method: str,
    given: dict[str, Any],
    known: set[str],
) -> None:
    """Raise TypeError for arguments that scikit-learn's methods do not accept."""
    strange = [name for name, value in given.items() if name not in known and value is not None]
    if not known:
        strange = [method]
    if method in FITS:
        strange += [name for name in ONLY_OURS if getattr(mixture, name, None)]
        if takes_gaps(mixture):
            strange.append("missing='em'")
        if not isinstance(mixture.init_params, str):
            strange.append("an init_params that is not a name")
    if is_read_in_pieces(given.get("X")):
        strange.append(f"a {type(given['X']).__name__}")
    if strange:
        msg = (
            f"{type(mixture).__name__} overrides {', '.join(hooks)}, so that scikit-learn's own "
            f"methods run, which do not accept {', '.join(strange)}: leave it out, or remove the "
            "override."
        )
        raise TypeError(msg)


def overridden_hooks(mixture: BaseEstimator, method: str) -> tuple[str, ...]:
    """Return the names of overridden methods that scikit-learn's method calls on itself.

    A subclass may override them, an instance may have them as attributes, and a test may have
    patched our classes, each even after an earlier call.
    """
    cls = type(mixture)
    # scikit-learn has no partial_fit: its hooks are the ones of a fit.
    calling = "fit_predict" if method == "partial_fit" else method
    hooks = _hooks_of(cast(Hashable, cls._counterpart), calling)
    found = {name for name in hooks if name in mixture.__dict__}
    for base in cls.__mro__[: cls.__mro__.index(cls._counterpart)]:
        own = vars(base)
        # In this order, only the few hooks are looked up, not all names of a class.
        if not own.keys().isdisjoint(hooks) and not base.__module__.startswith("sklearn."):
            found |= {name for name in hooks if name in own and not _is_ours(own[name])}
    return tuple(sorted(found - {method}))


def _is_ours(value: Any) -> bool:
    module = getattr(value, "__module__", None)
    return isinstance(module, str) and module.partition(".")[0] == PACKAGE


@lru_cache(maxsize=64)
def _hooks_of(owner: Hashable, method: str) -> frozenset[str]:
    assert isinstance(owner, type)
    return frozenset(_names_called_by(owner, method))


def _names_called_by(owner: type, method: str) -> set[str]:
    """Return the names of the methods that a method refers to, directly or indirectly."""
    found: set[str] = set()
    waiting = [method]
    while waiting:
        function = inspect.unwrap(getattr(owner, waiting.pop()))
        for name in _names_in(function.__code__):
            if name not in found and inspect.isfunction(getattr(owner, name, None)):
                found.add(name)
                waiting.append(name)
    return found


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)
