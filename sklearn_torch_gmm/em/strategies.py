"""Initialization of the parameters.

A strategy assigns rows to components; one M-step turns the assignment into parameters. K-means and
its seeding are scikit-learn's, with the same random numbers in the same order, so that a seed gives
both libraries the same initial parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.metrics import pairwise_distances
from torch import Tensor

from sklearn_torch_gmm.core.e_step import cost_of_pass
from sklearn_torch_gmm.core.m_step import MStepResult
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.em.classes import components_of_labelled
from sklearn_torch_gmm.em.first_m_step import (
    Assignment,
    Labels,
    RandomResponsibilities,
    Responsibilities,
    Sample,
    SingleRows,
)
from sklearn_torch_gmm.em.kmeans import kmeans, kmeans_plusplus_indices, kmeans_side_by_side
from sklearn_torch_gmm.em.recent_clusters import recent_or_new
from sklearn_torch_gmm.em.settings import FitSettings
from sklearn_torch_gmm.em.threads import threads_for_work
from sklearn_torch_gmm.rows.source import StartingRows
from sklearn_torch_gmm.rows.tensors import as_tensor

Strategy = Callable[[StartingRows, int, np.random.RandomState], Assignment]


def kmeans_plusplus_rows(
    data: StartingRows, num_components: int, random_state: np.random.RandomState
) -> SingleRows:
    """Assign only the rows that K-means++ selects, one to each component."""
    return SingleRows(kmeans_plusplus_indices(data, num_components, random_state))


def kmeans_plusplus_clusters(
    data: StartingRows, num_components: int, random_state: np.random.RandomState
) -> Labels:
    """Assign each row to the nearest of the rows that K-means++ selects."""
    picked = kmeans_plusplus_indices(data, num_components, random_state)
    return nearest_means(data, data.rows[picked])


def random_rows(
    data: StartingRows, num_components: int, random_state: np.random.RandomState
) -> SingleRows:
    """Assign only random rows, one to each component."""
    chances = None if data.weights is None else data.weights / data.weights.sum()
    available = len(data.rows) if chances is None else np.count_nonzero(chances)
    if available < num_components:
        msg = (
            f"Initialization by random samples needs {num_components} samples that have a weight "
            f"and a value, got {available}."
        )
        raise ValueError(msg)
    picked = random_state.choice(len(data.rows), size=num_components, replace=False, p=chances)
    return SingleRows(picked)


def random_responsibilities(
    data: StartingRows, num_components: int, random_state: np.random.RandomState
) -> RandomResponsibilities:
    """Assign random responsibilities to each row."""
    return RandomResponsibilities(random_state)


STRATEGIES: dict[str, Strategy] = {
    "kmeans": kmeans,
    "kmeans++": kmeans_plusplus_clusters,
    "k-means++": kmeans_plusplus_rows,
    "random": random_responsibilities,
    "random_from_data": random_rows,
}
"""Strategies by name. PyCave's 'kmeans++' and scikit-learn's 'k-means++' differ in the treatment of
the rows that were not selected."""


def nearest_means(data: StartingRows, means: npt.NDArray[Any]) -> Labels:
    """Assign each row to the nearest of the given means, which stay unchanged."""
    means = means.astype(np.float64, copy=False)
    labels = np.empty(len(data.rows), dtype=np.int64)
    for place, rows, _ in sample_of(data).chunks(len(means)):
        # SciPy's metric sums squared differences. scikit-learn's "euclidean" expands the squares,
        # which loses all precision far from the origin.
        distances = pairwise_distances(rows.numpy(), means, metric="sqeuclidean")
        labels[place] = distances.argmin(1)
    return Labels(labels, as_tensor(means))


def nearest_known(data: StartingRows, labels: npt.NDArray[np.int64], num_components: int) -> Labels:
    """Assign rows labelled −1 to the component whose known rows have the nearest mean.

    Source: Basu, Banerjee and Mooney, Semi-supervised clustering by seeding (2002).
    """
    is_known = labels >= 0
    if is_known.all():
        return Labels(labels)
    weights = np.ones(len(labels)) if data.weights is None else data.weights
    counts = np.bincount(labels[is_known], weights[is_known], minlength=num_components)
    if not counts.all():
        msg = (
            f"No sample of positive weight is labelled {counts.argmin()}. Labels of -1, for "
            f"unknown, need at least one known sample of each of the {num_components} components."
        )
        raise ValueError(msg)
    means = np.empty((num_components, data.rows.shape[1]))
    for component in range(num_components):
        own = labels == component
        means[component] = np.average(data.rows[own].astype(float), axis=0, weights=weights[own])
    return Labels(np.where(is_known, labels, nearest_means(data, means).labels))


def shared_starts(
    data: StartingRows, sample: Sample, draws: Sequence[Sequence[FitSettings]]
) -> Generator[list[MStepResult] | ValueError]:
    """Yield the initializations in turn, each for fits that differ only in their covariances.

    These fits share the assignment of rows to components, and each gets the same result as a
    separate fit. An assignment that fails is returned as an error if the fits continue without it.
    Initializations with the same ``random_state`` draw from it in turn.

    Raises
    ------
    ValueError
        If a callable returns an array of neither the shape of means nor that of labels.
    """
    start = draws[0][0].start
    if start.previous is not None:
        first = draws[0][0]
        continued = first.estimation.continuing(start.previous, first.structure)
        yield from ([_taken_as_given(continued)] for _ in draws)
    elif start.is_complete:
        yield from ([_taken_as_given(_given(fit)) for fit in alike] for alike in draws)
    elif _is_kmeans(draws[0][0]):
        with closing(_clusters(data, [alike[0] for alike in draws])) as found:
            for alike in draws:
                yield _estimate(next(found), sample, alike)
    else:
        for alike in draws:
            yield _assigned_start(data, sample, alike)


def _assigned_start(
    data: StartingRows, sample: Sample, alike: Sequence[FitSettings]
) -> list[MStepResult] | ValueError:
    try:
        return _estimate(_assign(data, alike[0]), sample, alike)
    except ValueError as failure:
        if alike[0].records_failures:
            return failure
        raise


def _is_kmeans(settings: FitSettings) -> bool:
    """Whether the initialization is by the clusters that K-means finds among all rows."""
    strategy = settings.start.strategy
    is_named = settings.start.nearest_means is None and settings.classes is None
    return is_named and isinstance(strategy, str) and STRATEGIES[strategy] is kmeans


def _clusters(data: StartingRows, fits: Sequence[FitSettings]) -> Generator[Labels]:
    """Yield the clusters that K-means finds for each fit in turn."""
    if fits[0].random.seed is None:
        # All numbers are drawn, since others may be drawn from the same random state.
        yield from kmeans_side_by_side(
            data, [(fit.num_components, fit.random_state) for fit in fits]
        )
        return
    runs = [(fit.num_components, fit.random) for fit in fits if fit.num_components > 1]
    with closing(recent_or_new(data, runs)) as found:
        for fit in fits:
            yield _all_in_one(data) if fit.num_components == 1 else next(found)


def _all_in_one(data: StartingRows) -> Labels:
    return Labels(np.zeros(len(data.rows), dtype=np.int64))


@torch.inference_mode()
def _estimate(
    assignment: Assignment, sample: Sample, alike: Sequence[FitSettings]
) -> list[MStepResult]:
    """Return the parameters of each fit from the same assignment of the rows."""
    num_rows, num_features = sample.rows.shape
    sizes = num_rows, alike[0].num_components, num_features
    with threads_for_work(max(cost_of_pass(*sizes, fit.structure) for fit in alike)):
        found = assignment.estimate_all(sample, alike)
    results = []
    for fit, result in zip(alike, found, strict=True):
        given = _with_given_parts(result.parameters, fit)
        has_precisions = fit.start.precisions is not None
        usable = torch.ones_like(result.usable) if has_precisions else result.usable
        results.append(replace(result, parameters=given, usable=usable))
    return results


def sample_of(data: StartingRows) -> Sample:
    """Return tensors that share the memory of ``data``; the default weights are one."""
    rows = as_tensor(data.rows)
    if data.weights is None:
        return Sample(rows, torch.ones((), dtype=torch.float64).expand(rows.shape[0]))
    return Sample(rows, as_tensor(data.weights))


def _assign(data: StartingRows, settings: FitSettings) -> Assignment:
    strategy, components = settings.start.strategy, settings.num_components
    num_rows, num_features = data.rows.shape
    if settings.classes is not None:
        known = components_of_labelled(data, settings.classes.numpy(), settings.random_state)
        return nearest_known(data, known, components)
    if settings.start.nearest_means is not None:
        return nearest_means(data, settings.start.nearest_means)
    if isinstance(strategy, str):
        return STRATEGIES[strategy](data, components, settings.random_state)
    if not callable(strategy):
        check_has_all_samples(strategy, num_rows)
        if strategy.ndim == 2:
            return Responsibilities(strategy)
        return nearest_known(data, strategy, components)
    # Read-only, since the rows may be the user's own array.
    rows = data.rows.view()
    rows.flags.writeable = False
    answer = np.asarray(strategy(rows, components, settings.random_state))
    is_finite = answer.dtype.kind in "fiub" and bool(np.isfinite(answer).all())
    if answer.shape == (components, num_features) and is_finite:
        return nearest_means(data, answer)
    is_label = np.isin(answer, np.arange(-1, components))
    if answer.shape == (num_rows,) and is_label.all():
        return nearest_known(data, answer.astype(np.int64), components)
    msg = (
        "A callable initialization must return finite means of shape (K, D) = "
        f"{(components, num_features)} or labels from 0 to {components - 1}, or -1 for unknown, of "
        f"shape (N,) = {(num_rows,)}, got an array of shape {answer.shape} and type {answer.dtype}"
    )
    if answer.shape == (num_rows,):
        msg += f" with the value {answer[~is_label][0]!s}"
    raise ValueError(f"{msg}.")


def check_has_all_samples(strategy: npt.NDArray[Any], num_rows: int) -> None:
    """Raise ValueError unless an array as initialization has as many values as there are rows."""
    if len(strategy) != num_rows:
        msg = (
            f"The array as initialization has values for {len(strategy)} samples, but the data "
            f"have {num_rows} samples."
        )
        raise ValueError(msg)


def _taken_as_given(parameters: MixtureParameters) -> MStepResult:
    everything = torch.ones_like(parameters.weights, dtype=torch.bool)
    return MStepResult(parameters, usable=everything)


def _given(settings: FitSettings) -> MixtureParameters:
    return _with_given_parts(MixtureParameters.none(), settings)


def _with_given_parts(parameters: MixtureParameters, settings: FitSettings) -> MixtureParameters:
    """Replace the results of the strategy by the parameters that the user gave."""
    start, structure = settings.start, settings.structure
    given: dict[str, Tensor] = {}
    if start.weights is not None:
        given["weights"] = _double(start.weights)
    if start.means is not None:
        given["means"] = _double(start.means)
    if start.precisions is not None:
        with threads_for_work(start.precisions.size * start.precisions.shape[-1]):
            factors = structure.precisions_cholesky_from_precisions(_double(start.precisions))
            given["covariances"] = structure.covariances(factors)
        given["precisions_cholesky"] = factors
    return replace(parameters, **given)


def _double(values: npt.NDArray[Any]) -> Tensor:
    return as_tensor(values.astype(np.float64, copy=False)).unsqueeze(0)
