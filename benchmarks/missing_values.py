"""Imputation compared with scikit-learn's imputers: the table of docs/missing_values.md.

    python -m benchmarks.missing_values                    # five data sets, ten seeds, minutes
    python -m benchmarks.missing_values --sets wine --seeds 3

Features are standardized, and each value is hidden with the same probability, or with one that
grows with its rank among the values of the feature. Nothing is tuned, for no contender.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer, load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import cross_val_score
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm.impute import GaussianMixtureImputer
from sklearn_torch_gmm.mixture import GaussianMixture


def ring() -> tuple[Any, Any]:
    """Points on a circle, whose halves are the classes: no mixture of two ellipses."""
    rng = np.random.default_rng(0)
    angles = rng.uniform(0, 2 * np.pi, 600)
    points = np.column_stack([np.cos(angles), np.sin(angles)])
    return points + 0.05 * rng.standard_normal((600, 2)), (angles > np.pi).astype(int)


def digits() -> tuple[Any, Any]:
    X, y = load_digits(return_X_y=True)
    return PCA(10, random_state=0).fit_transform(X), y


SETS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "iris": lambda: load_iris(return_X_y=True),
    "wine": lambda: load_wine(return_X_y=True),
    "breast cancer": lambda: load_breast_cancer(return_X_y=True),
    "digits": digits,
    "ring": ring,
}

SHARES = (("20 %", 0.2, False), ("40 %", 0.4, False), ("20 %, large ones", 0.2, True))
"""The share of the values that is hidden, and whether larger values are hidden more often."""

SETTINGS = {"reg_covar": 1e-3, "n_init": 3, "random_state": 0}
"""Of all mixtures: on data of unit scale, a thousandth of a typical variance."""


def contenders(num_classes: int) -> dict[str, Any]:
    return {
        "mean": SimpleImputer(),
        "KNN": KNNImputer(),
        "iterative": IterativeImputer(random_state=0),
        "K = 1": GaussianMixtureImputer(**SETTINGS),
        "K = C": GaussianMixtureImputer(num_classes, **SETTINGS),
        "K = C, tied": GaussianMixtureImputer(num_classes, covariance_type="tied", **SETTINGS),
    }


class Quality(NamedTuple):
    error: float
    """Root mean square error of the filled values, in standard deviations."""
    agreement: float
    """Adjusted Rand index of a mixture's clusters, fitted to the filled data, and the classes."""
    accuracy: float
    """Of a logistic regression on the filled data, in five folds."""


def hidden(X: Any, share: float, depends: bool, rng: np.random.Generator) -> Any:
    ranks = X.argsort(0).argsort(0) / len(X)
    return rng.random(X.shape) < (2 * share * ranks if depends else share)


def qualities(name: str, share: float, depends: bool, seed: int) -> Iterator[tuple[str, Quality]]:
    X, y = SETS[name]()
    X, num_classes = StandardScaler().fit_transform(X), len(set(y))
    is_hidden = hidden(X, share, depends, np.random.default_rng(seed))
    gappy = np.where(is_hidden, np.nan, X)
    for contender, imputer in contenders(num_classes).items():
        filled = imputer.fit_transform(gappy)
        labels = GaussianMixture(num_classes, **SETTINGS).fit_predict(filled)
        yield (
            contender,
            Quality(
                float(np.sqrt(np.mean((filled - X)[is_hidden] ** 2))),
                adjusted_rand_score(y, labels),
                cross_val_score(LogisticRegression(max_iter=500), filled, y).mean(),
            ),
        )
    labels = GaussianMixture(num_classes, missing="em", **SETTINGS).fit_predict(gappy)
    yield "EM", Quality(np.nan, adjusted_rand_score(y, labels), np.nan)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    # Few iterations of the imputers are enough, and some do not converge.
    warnings.simplefilter("ignore")
    print(f"scikit-learn {sklearn.__version__}, {arguments.seeds} seeds")
    runs = {
        (name, text): [
            dict(qualities(name, share, depends, seed)) for seed in range(arguments.seeds)
        ]
        for name in arguments.sets
        for text, share, depends in SHARES
    }
    for quality, best_of in (("error", min), ("agreement", max), ("accuracy", max)):
        columns = [*contenders(2), *(["EM"] if quality == "agreement" else [])]
        print(f"\n{quality}\n\n| data | hidden |", " | ".join(columns), "|")
        print("|---|---|" + "--:|" * len(columns))
        for (name, text), found in runs.items():
            means = [np.mean([getattr(one[c], quality) for one in found]) for c in columns]
            cells = [f"{mean:.3f}" if quality == "accuracy" else f"{mean:.2f}" for mean in means]
            best = best_of(means)
            cells = [
                f"**{cell}**" if mean == best else cell
                for cell, mean in zip(cells, means, strict=True)
            ]
            print(f"| {name} | {text} |", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
