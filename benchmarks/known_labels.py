"""Accuracy where most labels are hidden: the table of docs/semi_supervised.md.

    python -m benchmarks.known_labels                    # three data sets, twenty seeds, minutes
    python -m benchmarks.known_labels --sets wine --seeds 5

In each run a random 30 % of the samples are set aside for the test, stratified by class. Of the
others a share of the labels is hidden, but never so many that a class has fewer than two. Scaling
and PCA see the training samples only. Nothing is tuned, for no contender.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.datasets import load_breast_cancer, load_digits, load_wine
from sklearn.decomposition import PCA
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from sklearn_torch_gmm import GaussianMixtureClassifier

SETS: dict[str, tuple[Callable[..., Any], Callable[[], BaseEstimator]]] = {
    "digits": (load_digits, lambda: PCA(20, random_state=0)),
    "wine": (load_wine, StandardScaler),
    "breast cancer": (load_breast_cancer, StandardScaler),
}

HIDDEN = (0.9, 0.95, 0.98)

LEAST_LABELS = 2
"""Labels of each class that stay: with one, no contender could know how wide a class is."""

TEST_SHARE = 0.3


def ours(covariance_type: str) -> GaussianMixtureClassifier:
    # On data of unit scale, a hundredth of a typical variance.
    return GaussianMixtureClassifier(covariance_type=covariance_type, reg_covar=0.01, max_iter=300)


def linear() -> LinearDiscriminantAnalysis:
    # With few samples, shrinkage is the better of its forms.
    return LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")


CONTENDERS: dict[str, tuple[Callable[[], BaseEstimator], bool]] = {
    "LDA": (linear, True),
    "LabelSpreading": (lambda: LabelSpreading(kernel="knn"), False),
    "SelfTraining": (lambda: SelfTrainingClassifier(LogisticRegression(max_iter=1000)), False),
    "tied": (lambda: ours("tied"), False),
    "full": (lambda: ours("full"), False),
    "diag": (lambda: ours("diag"), False),
    "spherical": (lambda: ours("spherical"), False),
}
"""How each is made, and whether it sees the labelled samples only."""


def hide(y: Any, share: float, rng: np.random.Generator) -> Any:
    """Labels of which this share is -1, by class."""
    hidden = np.full_like(y, -1)
    for label in np.unique(y):
        own = np.flatnonzero(y == label)
        size = max(LEAST_LABELS, round((1 - share) * len(own)))
        hidden[rng.choice(own, size=size, replace=False)] = label
    return hidden


def accuracies(name: str, share: float, seed: int) -> tuple[dict[str, float], int]:
    """Accuracy of each contender on the test samples, and the number of labels."""
    load, reduction = SETS[name]
    X, y = load(return_X_y=True)
    X, test, y, truth = train_test_split(X, y, test_size=TEST_SHARE, stratify=y, random_state=seed)
    preparation = reduction().fit(X)
    X, test = preparation.transform(X), preparation.transform(test)
    # By one number for all features: PCA keeps its proportions.
    scale = X.std()
    X, test = X / scale, test / scale
    some = hide(y, share, np.random.default_rng(seed))
    is_known = some >= 0
    found = {}
    for contender, (make, needs_labels) in CONTENDERS.items():
        rows = is_known if needs_labels else slice(None)
        found[contender] = make().fit(X[rows], some[rows]).score(test, truth)
    return found, int(is_known.sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=20)
    arguments = parser.parse_args()
    # A graph of few neighbours may leave samples apart, and self-training may end with some left.
    warnings.simplefilter("ignore")
    print(f"scikit-learn {sklearn.__version__}, {arguments.seeds} seeds\n")
    print("| data | hidden | labels |", " | ".join(CONTENDERS), "|")
    print("|---|--:|--:|" + "--:|" * len(CONTENDERS))
    for name in arguments.sets:
        for share in HIDDEN:
            runs = [accuracies(name, share, seed) for seed in range(arguments.seeds)]
            values = {c: 100 * np.array([found[c] for found, _ in runs]) for c in CONTENDERS}
            best = max(v.mean() for v in values.values())
            cells = []
            for v in values.values():
                cell = f"{v.mean():.1f}±{v.std(ddof=1):.1f}"
                cells.append(f"**{cell}**" if v.mean() == best else cell)
            print(f"| {name} | {share:.0%} | {runs[0][1]} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
