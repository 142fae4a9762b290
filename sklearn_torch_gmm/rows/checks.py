"""Conversion of array-like parameters to finite floats."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_array
from torch import Tensor

from sklearn_torch_gmm._private_parts import InvalidParameterError

FLOAT_TYPES = [np.float64, np.float32]

FloatArray = npt.NDArray[np.floating[Any]]


def check_floats(values: Any, name: str, **options: Any) -> FloatArray:
    """Return an array-like or Tensor parameter as finite floats.

    ``name`` is used in messages, ``options`` are passed to scikit-learn's ``check_array``.

    Raises
    ------
    ValueError
        If ``values`` are not finite real numbers. Where NumPy raises a TypeError, the error is an
        instance of both classes.
    """
    if isinstance(values, Tensor):
        # With scikit-learn's `array_api_dispatch`, `check_array` would return a tensor.
        values = values.detach().cpu().numpy()
    options = {"dtype": FLOAT_TYPES, "ensure_2d": False, "input_name": name, **options}
    try:
        checked: FloatArray = check_array(values, **options)
    except (TypeError, ValueError) as error:
        if name in str(error):
            raise
        msg = f"{name} must be an array of real numbers: {error}"
        raise InvalidParameterError(msg) from error
    return checked
