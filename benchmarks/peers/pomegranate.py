import math

import numpy as np
from pomegranate.distributions import Normal
from pomegranate.gmm import GeneralMixtureModel

from benchmarks.peers.base import Fitted, NotOffered, TensorPeer


class Pomegranate(TensorPeer):
    """pomegranate; it has no tied covariances, and 'sphere' is not a variance that can be given."""

    covariances = ("full", "diag")

    def fit(self, X, settings):
        model = self._model(settings).to(self.device)
        # It tells no number of iterations: the tolerance is out of reach.
        model.n_iter_ = settings.iterations
        if settings.batch_size is None:
            return model.fit(X)
        for _ in range(10):
            for batch in X.split(settings.batch_size):
                model.summarize(batch)
            model.from_summaries()
        return model

    def _model(self, settings):
        kind, components = settings.covariance, range(settings.components)
        if settings.means is None:
            normals = [Normal(covariance_type=kind) for _ in components]
            return GeneralMixtureModel(normals, random_state=0)
        if settings.covariances is None:
            raise NotOffered("means alone cannot be given")
        means, covariances = self.prepare(settings.means), self.prepare(settings.covariances)
        normals = [Normal(means[k], covariances[k], kind) for k in components]
        priors = self.prepare(settings.weights)
        return GeneralMixtureModel(normals, priors, max_iter=settings.iterations, tol=-math.inf)

    def fitted(self, model):
        parts = model.distributions
        means = np.stack([part.means.detach().numpy() for part in parts])
        covariances = np.stack([part.covs.detach().numpy() for part in parts])
        return Fitted(model.priors.detach().numpy(), means, covariances, None)

    def method(self, model, name):
        return getattr(model, "log_probability" if name == "score_samples" else name)
