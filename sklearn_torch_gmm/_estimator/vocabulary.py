"""The words of a public class, and what they mean to a fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from sklearn_torch_gmm.em.settings import FitSettings


@dataclass(frozen=True)
class Vocabulary:
    """Names of the parameters that shared code needs, and the warning of a fit without end."""

    components: str
    start: str
    convergence_advice: str


def starts_from_array(mixture: BaseEstimator) -> bool:
    """Whether the start holds something for each row of the data, with weight or without."""
    start = getattr(mixture, mixture._vocabulary.start)
    return not (isinstance(start, str) or callable(start))


def settings_of(
    mixture: BaseEstimator, num_features: int, random_state: np.random.RandomState
) -> FitSettings:
    """Check the parameters against the data, or raise ValueError; return what they mean."""
    settings: FitSettings = mixture._fit_settings(num_features, random_state)
    return settings
