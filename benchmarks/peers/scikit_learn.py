import sklearn.mixture

from benchmarks.peers.base import NotOffered, Peer


class ScikitLearn(Peer):
    """scikit-learn on NumPy arrays."""

    module = sklearn.mixture

    def options(self, settings):
        if settings.batch_size is not None:
            raise NotOffered("no batches")
        return self.given(
            weights_init=settings.weights,
            means_init=settings.means,
            precisions_init=settings.precisions,
            max_iter=settings.iterations,
            reg_covar=settings.regularization,
        )

    def fit(self, X, settings):
        options = self.options(settings)
        if settings.iterations is not None:
            # All parameters are given, but scikit-learn still checks the initialization's name.
            options |= {"tol": 0.0, "init_params": "random_from_data"}
        return self.unfitted(settings, **options).fit(X)

    def unfitted(self, settings, **options):
        options = {"covariance_type": settings.covariance, "random_state": 0, **options}
        return self.module.GaussianMixture(settings.components, **options)
