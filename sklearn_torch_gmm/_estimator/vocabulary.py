"""The parameter names of a public class, and the settings that its parameters specify."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sklearn.base import BaseEstimator

from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.starting_values import of_positive_weight
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.rows.random_numbers import RandomNumbers

NOT_SCIKIT_LEARNS = ("labels_", "known_parts_", "n_samples_seen_", "regularization_")
"""Fitted attributes that scikit-learn's mixtures do not have."""


@dataclass(frozen=True)
class Vocabulary:
    """Properties of a public class that the shared code needs.

    Attributes
    ----------
    components, start : str
        Names of the parameters for the number of components and for the initialization.
    convergence_advice : str
        The warning of a fit that did not converge.
    answers_as_scikit_learn : bool
        Whether results for a CPU tensor are arrays while array API dispatch is off.
    """

    components: str
    start: str
    convergence_advice: str
    answers_as_scikit_learn: bool = False


def num_components_of(mixture: BaseEstimator) -> int:
    """Return the parameter K; a subclass may have another use for the name ``n_clusters``."""
    return int(getattr(mixture, mixture._vocabulary.components))


def answering_with_tensors(mixture: BaseEstimator) -> BaseEstimator:
    """Return the same fitted mixture, with tensors as results for tensors whatever its class.

    It is a view, which shares all attributes.
    """
    view = object.__new__(type(mixture))
    own = replace(mixture._vocabulary, answers_as_scikit_learn=False)
    vars(view).update({**vars(mixture), "_vocabulary": own})
    return view


def starts_from_array(mixture: BaseEstimator) -> bool:
    """Whether the initialization has a value for each sample, including samples of weight zero."""
    start = getattr(mixture, mixture._vocabulary.start)
    return not (isinstance(start, str) or callable(start))


def settings_of(
    mixture: BaseEstimator,
    num_features: int,
    random: RandomNumbers,
    sample_weight: Any = None,
) -> FitSettings:
    """Return the settings of a fit, or raise ValueError if parameters do not match the data.

    An initialization by an array has values for the samples of positive ``sample_weight`` only, as
    far as the weights are known.
    """
    settings: FitSettings = mixture._fit_settings(num_features, random)
    start = settings.start
    if start.previous is None:
        start = replace(start, strategy=of_positive_weight(start.strategy, sample_weight))
    loop = replace(settings.loop, missing=takes_gaps(mixture))
    return replace(settings, start=start, loop=loop)
