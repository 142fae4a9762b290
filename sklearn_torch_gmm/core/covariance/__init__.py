"""Covariance structures: one class per file, and a registry of them."""

from sklearn_torch_gmm.core.covariance.base import FEW_ROWS, CovarianceStructure
from sklearn_torch_gmm.core.covariance.registry import (
    SCIKIT_LEARN_TYPES,
    STRUCTURES,
    CovarianceType,
    get_structure,
    register_structure,
)

__all__ = [
    "FEW_ROWS",
    "SCIKIT_LEARN_TYPES",
    "STRUCTURES",
    "CovarianceStructure",
    "CovarianceType",
    "get_structure",
    "register_structure",
]
