"""The only place that knows the covariance types by name; users may register their own."""

from __future__ import annotations

from typing import Literal

from sklearn_torch_gmm.core.covariance.base import CovarianceStructure
from sklearn_torch_gmm.core.covariance.diag import DiagonalCovariance
from sklearn_torch_gmm.core.covariance.full import FullCovariance
from sklearn_torch_gmm.core.covariance.spherical import SphericalCovariance
from sklearn_torch_gmm.core.covariance.tied import TiedCovariance

CovarianceType = Literal["full", "tied", "diag", "spherical"]
"""A matrix for each component, one for all, a variance for each feature, or one variance."""

SCIKIT_LEARN_TYPES = ("full", "tied", "diag", "spherical")
"""The types that scikit-learn supports."""

_BUILT_IN = (FullCovariance(), TiedCovariance(), DiagonalCovariance(), SphericalCovariance())

STRUCTURES: dict[str, CovarianceStructure] = {structure.name: structure for structure in _BUILT_IN}


def register_structure(structure: CovarianceStructure) -> None:
    """Make a structure available under its name as a ``covariance_type`` in this process.

    Models of that type can be loaded only in processes where it is registered.

    Raises
    ------
    TypeError
        If it is not an instance of :class:`CovarianceStructure`.
    ValueError
        If the name is already taken.
    """
    given: object = structure
    if not isinstance(given, CovarianceStructure):
        msg = f"{given!r} is not an instance of CovarianceStructure: pass one, not its class."
        raise TypeError(msg)
    if structure.name in STRUCTURES:
        msg = f"The covariance type {structure.name!r} is taken: give the structure another name."
        raise ValueError(msg)
    STRUCTURES[structure.name] = structure


def get_structure(covariance_type: str) -> CovarianceStructure:
    """Return the structure of a name; ValueError if it is not registered."""
    try:
        return STRUCTURES[covariance_type]
    except (KeyError, TypeError):  # an unhashable value, such as a list
        known = ", ".join(map(repr, STRUCTURES))
        msg = f"Unknown covariance type {covariance_type!r}: use one of {known}."
        raise ValueError(msg) from None
