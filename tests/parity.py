"""scikit-learn's mixture and ours, fitted to the same data from the same start, side by side.

The tests use it; run as a script it prints the table of docs/migrating_from_scikit_learn.md::

    python -m tests.parity --seeds 0 1 2
"""

import argparse
import itertools
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sklearn
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine, make_blobs
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Theirs
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm.mixture import GaussianMixture as Ours

COVARIANCE_TYPES = ("full", "tied", "diag", "spherical")
STARTS = ("kmeans", "k-means++", "random", "random_from_data")
NUM_INITS = (1, 3)
SEEDS = (0, 1, 2)

ROUNDING = 1e-13
"""Two log-likelihoods whose relative difference is less are equal."""

TRIALS = 20


@dataclass(frozen=True, eq=False)
class Data:
    name: str
    rows: np.ndarray
    """[N, D]"""
    num_components: int


@cache
def data_sets() -> tuple[Data, ...]:
    standardize = StandardScaler().fit_transform
    digits = PCA(10, svd_solver="full").fit_transform(load_digits().data)
    overlapping, _ = make_blobs(1000, 5, centers=4, cluster_std=3.0, random_state=0)
    return (
        Data("iris", load_iris().data, 3),
        Data("wine, standardized", standardize(load_wine().data), 3),
        Data("breast cancer, standardized", standardize(load_breast_cancer().data), 2),
        Data("digits, 10 principal components", digits, 10),
        Data("overlapping blobs", overlapping, 4),
    )


@dataclass(frozen=True)
class Case:
    """One fit of the matrix."""

    data: Data
    covariance_type: str
    init_params: str
    seed: int
    n_init: int

    def __str__(self) -> str:
        return (
            f"{self.data.name}, {self.covariance_type}, {self.init_params}, "
            f"seed {self.seed}, n_init={self.n_init}"
        )

    def fit(self, mixture_class: type, rows: np.ndarray | None = None, **params: Any) -> Any:
        params = {
            "covariance_type": self.covariance_type,
            "init_params": self.init_params,
            "random_state": self.seed,
            "n_init": self.n_init,
            **params,
        }
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return mixture_class(self.data.num_components, **params).fit(
                self.data.rows if rows is None else rows
            )


def matrix(
    data: Iterable[Data] | None = None,
    seeds: Sequence[int] = SEEDS,
    num_inits: Sequence[int] = NUM_INITS,
) -> list[Case]:
    data = data_sets() if data is None else data
    choices = itertools.product(data, COVARIANCE_TYPES, STARTS, seeds, num_inits)
    return [Case(*choice) for choice in choices]


@dataclass(frozen=True)
class Comparison:
    """How far two fits are from each other.

    Attributes
    ----------
    iterations : int
        Difference of ``n_iter_``.
    other_labels : float
        Share of the rows whose label differs.
    means : float
        Largest difference of a mean's feature, relative to that feature of the mean, or to the
        standard deviation of the feature in the data where the mean is smaller.
    log_likelihood : float
        Difference of ``lower_bound_``, relative to it where its size is above one.
    """

    iterations: int
    other_labels: float
    means: float
    log_likelihood: float

    @property
    def is_same(self) -> bool:
        return (
            self.iterations == 0
            and self.other_labels <= 1e-3
            and self.means <= 1e-6
            and self.log_likelihood <= 1e-8
        )


def compare(
    rows: np.ndarray, theirs: Any, ours: Any, order: Sequence[int] | None = None
) -> Comparison:
    """Compare two fits; ``order`` lists our components in the order of theirs."""
    order = range(len(theirs.means_)) if order is None else order
    means = ours.means_[list(order)]
    scale = np.maximum(np.abs(theirs.means_), rows.std(axis=0))
    labels = np.argsort(order)[ours.predict(rows)]
    log_likelihood = abs(theirs.lower_bound_ - ours.lower_bound_)
    return Comparison(
        iterations=ours.n_iter_ - theirs.n_iter_,
        other_labels=float(np.mean(labels != theirs.predict(rows))),
        means=float(np.max(np.abs(means - theirs.means_) / scale)),
        log_likelihood=float(log_likelihood / max(1.0, abs(theirs.lower_bound_))),
    )


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes
    ----------
    comparison : Comparison
    reordered : Comparison
        After our components are put in the order of theirs.
    """

    case: Case
    comparison: Comparison
    reordered: Comparison

    @property
    def is_same(self) -> bool:
        return self.comparison.is_same

    @property
    def is_tie(self) -> bool:
        """Whether both found one mixture from different starts, between which rounding chose."""
        return self.reordered.is_same and tied_starts(self.case) >= 2


def same_components(theirs: Any, ours: Any) -> np.ndarray:
    """Our components in the order of theirs: the nearest means."""
    distances = np.linalg.norm(theirs.means_[:, None] - ours.means_, axis=-1)
    return linear_sum_assignment(distances)[1]


@cache
def tied_starts(case: Case) -> int:
    """How many starts of scikit-learn's tie with its best."""
    random_state = np.random.RandomState(case.seed)
    # One after another from one stream of random numbers is what `n_init` does.
    bounds = [
        case.fit(Theirs, n_init=1, random_state=random_state).lower_bound_
        for _ in range(case.n_init)
    ]
    return sum(max(bounds) - bound <= ROUNDING * max(1.0, abs(bound)) for bound in bounds)


def changes_by_rounding(case: Case) -> int:
    """How often scikit-learn's labels change when its data do, by one unit in the last place."""
    rows = case.data.rows
    labels = case.fit(Theirs).predict(rows)
    changes = 0
    for trial in range(TRIALS):
        steps = np.random.RandomState(trial).randint(-1, 2, size=rows.shape)
        perturbed = rows * (1.0 + np.finfo(float).eps * steps)
        mixture = case.fit(Theirs, perturbed)
        changes += int(np.mean(mixture.predict(perturbed) != labels) > 1e-3)
    return changes


def run(case: Case) -> Outcome:
    theirs, ours = case.fit(Theirs), case.fit(Ours)
    rows = case.data.rows
    return Outcome(
        case,
        compare(rows, theirs, ours),
        compare(rows, theirs, ours, same_components(theirs, ours)),
    )


def table(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines of Markdown: what the fits that are the same differ by, at most."""
    yield "| data | N × D | K | fits | the same | means | log-likelihood |"
    yield "|---|---|---|---|---|---|---|"
    for data in data_sets():
        of_data = [outcome for outcome in outcomes if outcome.case.data is data]
        same = [outcome.comparison for outcome in of_data if outcome.is_same]
        samples, features = data.rows.shape
        means = max(comparison.means for comparison in same)
        log_likelihood = max(comparison.log_likelihood for comparison in same)
        yield (
            f"| {data.name} | {samples} × {features} | {data.num_components} | {len(of_data)} "
            f"| {len(same)} | {means:.0e} | {log_likelihood:.0e} |"
        )


def table_of_differences(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Lines of Markdown: the fits that are not the same, and what is known of the reason."""
    yield (
        "| fit | different labels | log-likelihood | means, after reordering "
        f"| tied initializations | changes in {TRIALS} trials |"
    )
    yield "|---|---|---|---|---|---|"
    for outcome in outcomes:
        if outcome.is_same:
            continue
        case = outcome.case
        yield (
            f"| {case} | {outcome.comparison.other_labels:.0%} "
            f"| {outcome.comparison.log_likelihood:.0e} | {outcome.reordered.means:.0e} "
            f"| {tied_starts(case)} of {case.n_init} | {changes_by_rounding(case)} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    cases = matrix(seeds=parser.parse_args().seeds)
    outcomes = [run(case) for case in cases]
    same = sum(outcome.is_same for outcome in outcomes)
    print(f"scikit-learn {sklearn.__version__}: {same} of {len(cases)} fits are the same.\n")
    print("\n".join(table(outcomes)), end="\n\n")
    print("\n".join(table_of_differences(outcomes)))


if __name__ == "__main__":
    main()
