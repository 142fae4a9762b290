"""The one place that knows the covariance types by name."""

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

STRUCTURES: dict[str, CovarianceStructure] = {
    structure.name: structure
    for structure in (
        FullCovariance(),
        TiedCovariance(),
        DiagonalCovariance(),
        SphericalCovariance(),
    )
}


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
