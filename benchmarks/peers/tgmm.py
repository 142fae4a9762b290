from tgmm import GaussianMixture

from benchmarks.peers.base import TensorPeer


class TGMM(TensorPeer):
    """tgmm."""

    needs_means = True

    def fit(self, X, settings):
        options = self.given(
            init_weights=settings.weights,
            init_means=settings.means,
            init_covariances=settings.covariances,
            max_iter=settings.iterations,
            tol=None if settings.iterations is None else 1e-300,
            reg_covar=settings.regularization,
            batch_size=settings.batch_size,
        )
        features = len(X[0]) if len(X) else 2
        kind = "tied_full" if settings.covariance == "tied" else settings.covariance
        options |= {"covariance_type": kind, "random_state": 0}
        return GaussianMixture(settings.components, features, **options).fit(X)

    def iterations(self, model):
        # It tells the index of the last one.
        return int(model.n_iter_) + 1
