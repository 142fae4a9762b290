"""The parameter `fixed`: names of parts, or the components of which a part stays fixed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from sklearn_torch_gmm._estimator.vocabulary import num_components_of
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.fixed import PARTS, FixedParts, Part

Fixed = Sequence[Part] | Mapping[Part, bool | npt.ArrayLike]
"""Names of parts, or for each part True, component numbers or a bool mask ``[K]``."""

_BOOLS = (bool, np.bool_)


def fixed_parts_of(mixture: BaseEstimator) -> FixedParts:
    """Return the components that the parameter `fixed` of a mixture selects.

    ValueError is raised for unknown parts and components, and for single components of a covariance
    that all components share.
    """
    components = {
        part: _mask(mixture, part, value) for part, value in _by_part(mixture.fixed).items()
    }
    fixed = {part: mask for part, mask in components.items() if mask.any()}
    is_shared = get_structure(mixture.covariance_type).is_shared
    if is_shared and "covariances" in fixed and not fixed["covariances"].all():
        msg = (
            f"With covariance_type={mixture.covariance_type!r} all components share one "
            "covariance, which cannot be fixed for some of them: fixed['covariances'] must be True "
            "or left out. Other covariance types can fix single components."
        )
        raise ValueError(msg)
    return fixed


def _by_part(fixed: Any) -> Mapping[Part, Any]:
    is_collection = isinstance(fixed, (list, tuple, dict))
    unknown = [name for name in fixed if name not in PARTS] if is_collection else [fixed]
    if unknown:
        msg = (
            f"'fixed' must name parts of {PARTS}, but got {unknown[0]!r}. Single components are "
            "fixed by a dict, such as {'means': [0, 2]}."
        )
        raise ValueError(msg)
    return fixed if isinstance(fixed, dict) else dict.fromkeys(fixed, True)


def _mask(mixture: BaseEstimator, part: Part, value: Any) -> Tensor:
    components = num_components_of(mixture)
    if isinstance(value, _BOOLS):
        return torch.full((components,), bool(value), device="cpu")
    try:
        chosen = np.asarray(value.detach().cpu() if isinstance(value, Tensor) else value)
    except ValueError:
        # Lists of different lengths have no shape.
        chosen = np.asarray(None)
    if chosen.shape == (components,) and chosen.dtype.kind == "b":
        return torch.tensor(chosen, device="cpu")
    is_empty = chosen.shape == (0,)
    # NumPy takes True for the number one if another element is a number.
    has_bools = isinstance(value, (list, tuple)) and any(isinstance(v, _BOOLS) for v in value)
    if not is_empty and (chosen.ndim != 1 or chosen.dtype.kind not in "iu" or has_bools):
        msg = (
            f"fixed[{part!r}] must be True, a list of component numbers, or a bool mask of shape "
            f"({components},), got {value!r}."
        )
        raise ValueError(msg)
    unknown = [number for number in chosen.tolist() if not 0 <= number < components]
    if unknown:
        name = mixture._vocabulary.components
        msg = (
            f"fixed[{part!r}] names component {unknown[0]}, but with {name}={components} the "
            f"components are 0 to {components - 1}."
        )
        raise ValueError(msg)
    mask = torch.zeros(components, dtype=torch.bool, device="cpu")
    mask[chosen.tolist()] = True
    return mask
