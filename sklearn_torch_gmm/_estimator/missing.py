"""The parameter `missing` of the mixtures: whether NaN marks a value that was not observed."""

from __future__ import annotations

from typing import Literal, get_args

from sklearn.base import BaseEstimator

from sklearn_torch_gmm._private_parts import StrOptions

Missing = Literal["error", "em"]
"""What NaN in the data is: an error, or a value that was not observed."""

ALLOWED = StrOptions(set(get_args(Missing)))


def takes_gaps(estimator: BaseEstimator) -> bool:
    """Whether NaN marks a missing value; not every estimator has the parameter."""
    return getattr(estimator, "missing", "error") == "em"
