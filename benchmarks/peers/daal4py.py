import daal4py
import numpy as np

from benchmarks.peers.base import NotOffered, Peer


class Daal4py(Peer):
    """oneDAL's EM, which scikit-learn-intelex installs; it fits and doesn't predict."""

    covariances = ("full", "diag")

    def fit(self, X, settings):
        algorithm = daal4py.em_gmm(
            nComponents=settings.components,
            fptype="float" if X.dtype == np.float32 else "double",
            maxIterations=settings.iterations,
            accuracyThreshold=0.0,
            regularizationFactor=1e-6,
            covarianceStorage="full" if settings.covariance == "full" else "diagonal",
        )
        covariances = [np.atleast_2d(matrix) for matrix in settings.covariances]
        weights = settings.weights[np.newaxis]
        return algorithm.compute(X, weights, settings.means, covariances), len(X)

    def iterations(self, model):
        result, _ = model
        return int(result.nIterations.item())

    def log_likelihood(self, model):
        result, rows = model
        return float(result.goalFunction.item()) / rows

    def method(self, model, name):
        raise NotOffered("fits only")
