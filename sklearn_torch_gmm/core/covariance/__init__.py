"""Covariance structures: one class a file behind one registry."""

from sklearn_torch_gmm.core.covariance.base import CovarianceStructure
from sklearn_torch_gmm.core.covariance.registry import STRUCTURES, CovarianceType, get_structure

__all__ = ["STRUCTURES", "CovarianceStructure", "CovarianceType", "get_structure"]
