"""Packages that use scikit-learn's mixture, with its class and with ours in its place.

This is the evidence for docs/compatibility.md. It isn't part of the tests, which need none of these
packages::

    pip install scikit-lego pyod graspologic smote-variants
    python -m tests.compatibility

Each program runs in two processes; in one of them our class takes the place of scikit-learn's
before the package imports it. What they return is compared.
"""

import importlib.metadata
import pickle
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SWAP = """
import sklearn.mixture
from sklearn_torch_gmm.mixture import GaussianMixture
sklearn.mixture.GaussianMixture = GaussianMixture
"""

DATA = """
import pickle, sys, warnings
import numpy as np
from sklearn.datasets import load_iris
warnings.simplefilter("ignore")
X, y = load_iris(return_X_y=True)
"""

CHECK = """
for mixture in mixtures:
    assert type(mixture).__module__.split(".")[0] == sys.argv[2], type(mixture)
pickle.dump(results, open(sys.argv[1], "wb"))
"""


class Program(NamedTuple):
    package: str
    what: str
    source: str
    """Leaves `results`, arrays to compare, and `mixtures`, some that the package made."""


PROGRAMS = [
    Program(
        "scikit-lego",
        "GMMClassifier: fit, predict_proba, cross_val_score, GridSearchCV",
        """
        from sklearn.model_selection import GridSearchCV, cross_val_score
        from sklego.mixture import GMMClassifier
        model = GMMClassifier(n_components=2, random_state=0).fit(X, y)
        grid = {"n_components": [1, 2, 3], "covariance_type": ["full", "tied", "diag", "spherical"]}
        search = GridSearchCV(GMMClassifier(random_state=0), grid).fit(X, y)
        results = [
            model.predict(X), model.predict_proba(X), cross_val_score(model, X, y),
            search.cv_results_["mean_test_score"],
        ]
        mixtures = model.gmms_.values()
        """,
    ),
    Program(
        "scikit-lego",
        "GMMOutlierDetector: both methods, score_samples, decision_function, predict",
        """
        from sklego.mixture import GMMOutlierDetector
        results, mixtures = [], []
        for method, threshold in (("quantile", 0.95), ("stddev", 2.0)):
            model = GMMOutlierDetector(
                n_components=3, method=method, threshold=threshold, random_state=0
            ).fit(X)
            results += [model.score_samples(X), model.decision_function(X), model.predict(X)]
            mixtures.append(model.gmm_)
        """,
    ),
    Program(
        "scikit-lego",
        "GaussianMixtureNB: fit, predict_proba",
        """
        from sklego.naive_bayes import GaussianMixtureNB
        model = GaussianMixtureNB(n_components=2, random_state=0).fit(X, y)
        results = [model.predict(X), model.predict_proba(X)]
        mixtures = [mixture for of_class in model.gmms_.values() for mixture in of_class]
        """,
    ),
    Program(
        "pyod",
        "models.gmm.GMM: fit, decision_function, predict_proba, the attributes that it hands on",
        """
        from pyod.models.gmm import GMM
        model = GMM(n_components=3, n_init=2, init_params="random", random_state=0).fit(X)
        results = [
            model.decision_scores_, model.threshold_, model.labels_, model.decision_function(X),
            model.predict_proba(X), model.weights_, model.means_, model.covariances_,
            model.precisions_, model.precisions_cholesky_, model.n_iter_, model.lower_bound_,
        ]
        mixtures = [model.detector_]
        """,
    ),
    Program(
        "graspologic",
        "GaussianCluster: all covariance types and 1 to 5 components, the best by BIC",
        """
        from graspologic.cluster import GaussianCluster
        model = GaussianCluster(1, 5, "all", random_state=0).fit(X, y)
        results = [
            model.bic_.to_numpy(dtype=float), model.ari_.to_numpy(dtype=float),
            model.n_components_, model.predict(X),
        ]
        mixtures = [model.model_]
        """,
    ),
    Program(
        "graspologic",
        "AutoGMMCluster: starts taken from hierarchical clustering by way of the three *_init",
        """
        from graspologic.cluster import AutoGMMCluster
        model = AutoGMMCluster(2, 4, random_state=0).fit(X, y)
        results = [model.n_components_, model.criter_, model.predict(X), model.model_.means_]
        mixtures = [model.model_]
        """,
    ),
    Program(
        "smote-variants",
        "ADG's xgmeans: the number of components by BIC, up to one for each row",
        """
        from smote_variants.oversampling._adg import xgmeans
        few = X[y == 1]
        model = xgmeans(few, rng=(1, 10), random_state=0)
        results = [model.n_components, model.bic(few), model.means_, model.predict(few)]
        mixtures = [model]
        """,
    ),
]


def results_of(program: Program, swapped: bool) -> list[Any] | str:
    """What the program returns, or the last line of its traceback."""
    parts = [SWAP] if swapped else []
    source = "\n".join([*parts, DATA, textwrap.dedent(program.source), CHECK])
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.pickle")
        module = "sklearn_torch_gmm" if swapped else "sklearn"
        process = subprocess.run(
            [sys.executable, "-c", source, str(file), module],
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode != 0:
            return process.stderr.strip().splitlines()[-1]
        results: list[Any] = pickle.loads(file.read_bytes())
        return results


def largest_difference(theirs: list[Any], ours: list[Any]) -> float:
    """Relative to one where the values are smaller."""
    largest = 0.0
    for expected, actual in zip(theirs, ours, strict=True):
        expected, actual = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
        assert expected.shape == actual.shape
        difference = np.abs(actual - expected) / np.maximum(1.0, np.abs(expected))
        largest = max(largest, float(difference.max()))
    return largest


def main() -> None:
    print("| package | what ran | largest difference |")
    print("|---|---|---|")
    for program in PROGRAMS:
        version = importlib.metadata.version(program.package)
        theirs, ours = results_of(program, swapped=False), results_of(program, swapped=True)
        if isinstance(theirs, str):
            outcome = f"fails with scikit-learn's class: {theirs}"
        elif isinstance(ours, str):
            outcome = f"fails with ours: {ours}"
        else:
            outcome = f"{largest_difference(theirs, ours):.0e}"
        print(f"| {program.package} {version} | {program.what} | {outcome} |", flush=True)


if __name__ == "__main__":
    main()
