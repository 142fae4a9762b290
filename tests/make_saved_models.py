"""Writes the models of this version that every later version must load.

``python -m tests.make_saved_models``, once for each version that is released and whenever
``FORMAT_VERSION`` is raised. Predictions are written beside the models: not ours, but scipy's.
"""

import json
from pathlib import Path

import numpy as np

import sklearn_torch_gmm
from sklearn_torch_gmm import GaussianMixture, mixture
from tests.core.oracle import Mixture, joint_log_densities, log_densities

MODELS = Path(__file__).parent / "data" / "models"
TYPES = ["full", "tied", "diag", "spherical"]
K, D = 3, 2


def make_rows() -> np.ndarray:
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0], [6.0, 1.0], [-2.0, 7.0]])
    return (centres[rng.integers(K, size=60)] + rng.normal(size=(60, D))).round(2)


def make_estimators(covariance_type: str) -> dict:
    return {
        "documented": GaussianMixture(K, covariance_type=covariance_type, random_state=0),
        "drop-in": mixture.GaussianMixture(K, covariance_type=covariance_type, random_state=0),
    }


def make_unfitted() -> dict:
    """Return estimators whose parameters are of every kind that is stored."""
    random_state = np.random.RandomState(0)
    random_state.standard_normal(3)
    trainer_params = {"max_epochs": 20, "devices": (0,), "limit": None, "rate": 0.1, 3: "three"}
    return {
        "documented": GaussianMixture(
            2,
            init_means=np.array([[0.0, 1.0], [2.0, np.nan]]),
            convergence_tolerance=np.inf,
            trainer_params=trainer_params,
            random_state=random_state,
        ),
        "drop-in": mixture.GaussianMixture(
            2, means_init=[[0, 1], [2, 3]], precisions_init=np.eye(2, dtype=np.float32), tol=0.0
        ),
    }


def as_matrices(covariances: np.ndarray, covariance_type: str) -> np.ndarray:
    if covariance_type == "full":
        return covariances
    if covariance_type == "tied":
        return np.stack([covariances] * K)
    if covariance_type == "diag":
        return np.stack([np.diag(variances) for variances in covariances])
    return np.stack([variance * np.eye(D) for variance in covariances])


def main() -> None:
    place = MODELS / sklearn_torch_gmm.__version__
    if place.exists():
        raise SystemExit(f"{place} is there already: if it was never released, remove it first.")
    rows = make_rows()
    grid = np.mgrid[-4:8:4j, -4:8:4j].reshape(2, -1).T
    expected = {"rows": grid.tolist()}
    for covariance_type in TYPES:
        for kind, estimator in make_estimators(covariance_type).items():
            estimator.fit(rows).save(place / f"{kind}-{covariance_type}")
            matrices = as_matrices(estimator.covariances_, covariance_type)
            parameters = Mixture(estimator.weights_, estimator.means_, matrices)
            expected[f"{kind}-{covariance_type}"] = {
                "labels": joint_log_densities(parameters, grid).argmax(0).tolist(),
                "log_densities": log_densities(parameters, grid).tolist(),
                "means": estimator.means_.tolist(),
                "n_iter": estimator.n_iter_,
            }
    for kind, estimator in make_unfitted().items():
        estimator.save(place / f"{kind}-unfitted")
    (place / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


if __name__ == "__main__":
    main()
