"""Covariance structures: one class a file behind one registry."""

from sklearn_torch_gmm.core.covariance.base import FEW_ROWS, CovarianceStructure
from sklearn_torch_gmm.core.covariance.registry import STRUCTURES, CovarianceType, get_structure

__all__ = ["FEW_ROWS", "STRUCTURES", "CovarianceStructure", "CovarianceType", "get_structure"]
