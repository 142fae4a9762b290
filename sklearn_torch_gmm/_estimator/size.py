"""A check of the memory that covariances take, before anything is allocated.

It is quadratic in the number of features: for genes, pixels or a transposed matrix it may be more
than the machine has, and the system would end the process without an error.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import numpy as np

from sklearn_torch_gmm.core.caller import level_of_caller
from sklearn_torch_gmm.em.settings import FitSettings

LEAST_BYTES = 2**30
"""Bytes of covariances from which on a fit is checked: most machines have several times as much.
With half of it, fits of 4,000 features would be checked, which run everywhere in a minute."""

PARAMETERS_PER_VALUE = 10
"""Covariance parameters for each value of X from which on a fit of this size is questioned.

For four full covariances [100, 20000] has 400 of them and [20000, 100] has 0.01. Data with ten for
each value do not determine them; with twice as many, the same number of features would be accepted
with half the samples."""

LEAST_COPIES = 4
"""Copies of the covariances that a fit needs at a time at least: factors and sums, and the same for
the next iteration. At the peak, 11 were measured for full covariances and 15 for tied ones."""


def check_size(fits: Sequence[FitSettings], num_rows: int | None, num_features: int) -> None:
    """Check the memory of the covariances of fits to X of shape ``(num_rows, num_features)``.

    The number of rows is None if X is a batch of more rows, or if it is unknown.

    Raises
    ------
    MemoryError
        If the system refuses it.

    Warns
    -----
    UserWarning
        If it is large, and most of the parameters cannot be estimated from so few values.
    """
    sizes = [_covariance_bytes(fit, num_features) for fit in fits]
    if sum(sizes) < LEAST_BYTES:
        return
    largest = fits[int(np.argmax(sizes))]
    others = f", and of {len(fits) - 1} smaller mixtures," if len(fits) > 1 else ""
    found = (
        f"The covariances of {largest.num_components} components and {num_features} features with "
        f"covariance_type={largest.covariance_type!r}{others} take {sum(sizes) / 2**30:,.1f} GiB, "
        "and a fit needs several times as much"
    )
    advice = (
        "If X is transposed, pass X.T. Otherwise reduce the features, for example by "
        "sklearn.decomposition.PCA, or choose covariance_type='diag'."
    )
    if num_rows is not None:
        advice = f"X has {num_rows} samples and {num_features} features. {advice}"
    if not _can_allocate(LEAST_COPIES * sum(sizes)):
        msg = f"{found}: more than this machine has. {advice}"
        raise MemoryError(msg)
    parameters = largest.structure.num_covariance_parameters(largest.num_components, num_features)
    if num_rows is not None and parameters >= PARAMETERS_PER_VALUE * num_rows * num_features:
        ratio = parameters / (num_rows * num_features)
        msg = f"{found}, with {ratio:,.0f} parameters for each value of X. {advice}"
        warnings.warn(msg, stacklevel=level_of_caller())


def _covariance_bytes(fit: FitSettings, num_features: int) -> int:
    """Return the size of the covariances of all initializations in float64."""
    shape = fit.structure.covariance_shape(fit.num_components, num_features)
    return 8 * fit.num_init * math.prod(shape)


def _can_allocate(num_bytes: int) -> bool:
    """Whether the system grants the memory; nothing is written to it, so it takes no time."""
    try:
        np.empty(num_bytes, dtype=np.uint8)
    except (MemoryError, ValueError):
        # A ValueError: more than an address can count.
        return False
    return True
