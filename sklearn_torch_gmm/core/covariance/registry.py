"""The one place that knows the covariance types by name; users may add their own."""

from __future__ import annotations

from typing import Literal

from sklearn_torch_gmm.core.covariance.base import CovarianceStructure
from sklearn_torch_gmm.core.covariance.diag import DiagonalCovariance
from sklearn_torch_gmm.core.covariance.full import FullCovariance
from sklearn_torch_gmm.core.covariance.spherical import SphericalCovariance
from sklearn_torch_gmm.core.covariance.tied import TiedCovariance

CovarianceType = Literal["full", "tied", "diag", "spherical"]
"""How the covariance of a component may look.

- ``"full"``: each component has a covariance matrix of its own;
- ``"tied"``: all components share one covariance matrix;
- ``"diag"``: each component has a variance for each feature;
- ``"spherical"``: each component has one variance.
"""

SCIKIT_LEARN_TYPES = ("full", "tied", "diag", "spherical")
"""The types that scikit-learn has as well."""

STRUCTURES: dict[str, CovarianceStructure] = {
    structure.name: structure
    for structure in (
        FullCovariance(),
        TiedCovariance(),
        DiagonalCovariance(),
        SphericalCovariance(),
    )
}


def register_structure(structure: CovarianceStructure) -> None:
    """Make a structure available as the ``covariance_type`` of its name, in this process.

    Models with that type can be loaded only where it is registered.

    Raises
    ------
    ValueError
        If the name is taken.
    """
    if structure.name in STRUCTURES:
        msg = f"The covariance type {structure.name!r} is taken: give the structure another name."
        raise ValueError(msg)
    STRUCTURES[structure.name] = structure


def get_structure(covariance_type: str) -> CovarianceStructure:
    """Return the structure of that name.

    Raises
    ------
    ValueError
        If there is none.
    """
    try:
        return STRUCTURES[covariance_type]
    except (KeyError, TypeError):  # a list cannot be looked up
        known = ", ".join(map(repr, STRUCTURES))
        msg = f"Unknown covariance type {covariance_type!r}: use one of {known}."
        raise ValueError(msg) from None
