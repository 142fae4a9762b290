"""The stability of a mixture: the agreement of the labels that its initializations lead to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from sklearn_torch_gmm._estimator.base import BaseGaussianMixture
from sklearn_torch_gmm._estimator.fit_data import FitData
from sklearn_torch_gmm._estimator.inference import evaluate, inference_of
from sklearn_torch_gmm._estimator.missing import takes_gaps
from sklearn_torch_gmm._estimator.progress_bars import ProgressBars
from sklearn_torch_gmm._selection.results import Fits, with_parameters


def mean_agreement(
    candidates: Sequence[BaseGaussianMixture],
    fits: Fits,
    data: FitData,
    bars: ProgressBars | None = None,
) -> list[float]:
    """Return each candidate's mean adjusted Rand index between restarts; NaN for fewer than two.

    Samples without any value do not count: all of them have the label of the largest weight.
    """
    means = []
    if bars is not None:
        bars.stage("stability", len(candidates), "mixture")
    for candidate, restarts in zip(candidates, fits, strict=True):
        mixtures = [
            with_parameters(candidate, restart, data.dtype)
            for restart in restarts
            if restart.error is None
        ]
        indices: list[float] = []
        if len(mixtures) > 1:
            tables, unit = _contingency_tables(mixtures, data)
            indices = [adjusted_rand_index(table, unit) for table in tables]
        means.append(float(np.mean(indices)) if indices else math.nan)
        if bars is not None:
            bars.step()
    return means


def _contingency_tables(
    mixtures: Sequence[BaseGaussianMixture], data: FitData
) -> tuple[Tensor, float]:
    """Return the weights ``[P, K, K]`` of the rows by their labels in each of P pairs of mixtures.

    All mixtures label a row in the same pass, since a loader may shuffle. The second value is the
    weight of a single row: a weight of the user's is a number of copies, unless it is less.
    """
    size = mixtures[0].n_clusters
    pairs = list(combinations(range(len(mixtures)), 2))
    tables = torch.zeros(len(pairs), size * size, dtype=torch.float64, device="cpu")
    inferences = [inference_of(mixture) for mixture in mixtures]
    total, squares = 0.0, 0.0
    with data.rows.batches(mixtures[0].batch_size, mixtures[0].num_workers) as batches:
        for rows, *others in batches:
            weights = torch.ones(rows.shape[0], dtype=torch.float64, device="cpu")
            if others:
                weights = others[0].cpu().double()
            total += weights.sum().item()
            squares += weights.square().sum().item()
            if takes_gaps(mixtures[0]):
                weights = weights * evaluate(inferences[0], "have_values", rows).cpu()
            labels = [evaluate(inference, "labels", rows).cpu() for inference in inferences]
            for table, (one, other) in zip(tables, pairs, strict=True):
                cells = size * labels[one] + labels[other]
                table += cells.bincount(weights, minlength=size * size)
    # Batches have weights with a mean of one, and a copy that the user counts is a part of it.
    return tables.view(-1, size, size), min(total / data.total_weight, squares / total)


def adjusted_rand_index(table: Tensor, unit: float = 1.0) -> float:
    """Return the adjusted Rand index of two labellings, from their contingency ``table [K, L]``.

    A cell holds the weight of the rows with both labels, of which ``unit`` stands for one row.
    Source: Hubert and Arabie, Comparing partitions, Journal of Classification 2 (1985), (5).
    """

    def pairs(weights: Tensor) -> float:
        return 0.5 * (weights * (weights - unit)).sum().item()

    together, by_one, by_other = pairs(table), pairs(table.sum(1)), pairs(table.sum(0))
    largest, all_pairs = 0.5 * (by_one + by_other), pairs(table.sum().view(1))
    by_chance = by_one * by_other / all_pairs if all_pairs > 0 else largest
    # A single group agrees with itself.
    return 1.0 if largest <= by_chance else (together - by_chance) / (largest - by_chance)
