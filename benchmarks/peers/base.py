"""What the worker asks of a library."""

from typing import NamedTuple

import numpy as np

from benchmarks.cases import COVARIANCES


class Fitted(NamedTuple):
    """What a library says that it has found: weights [K], means [K, D], covariances."""

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    converged: bool | None


class NotOffered(Exception):
    """The library has nothing of the kind."""


class Peer:
    """A library, asked through its public interface.

    Data are prepared before the clock starts; results stay in the library's own kind of array.
    Processes of libraries that do not need torch do not load it.
    """

    covariances = COVARIANCES
    runs_on_gpu = False
    needs_means = False
    """Whether the means of difficult data are given to it, to help its initialization."""

    def __init__(self, device="cpu"):
        self.device = device
        if device != "cpu" and not self.runs_on_gpu:
            raise NotOffered(f"does not run on {device}")

    def synchronize(self):
        """Wait until the device has done what it was told."""
        if self.device != "cpu":
            import torch

            torch.cuda.synchronize()

    def forget(self):
        """Forget what the latest fits have left for another one to the same data."""

    def prepare(self, X):
        return X

    def given(self, **options):
        """The options that are not None, arrays as the library takes them."""
        given = {name: value for name, value in options.items() if value is not None}
        return {k: self.prepare(v) if isinstance(v, np.ndarray) else v for k, v in given.items()}

    def fit(self, X, settings):
        """A fitted model."""
        raise NotImplementedError

    def unfitted(self, settings, **options):
        """An estimator with scikit-learn's methods and parameters."""
        raise NotOffered("not compared")

    def fitted(self, model):
        parameters = (model.weights_, model.means_, model.covariances_)
        return Fitted(*map(np.asarray, parameters), bool(model.converged_))

    def iterations(self, model):
        return int(model.n_iter_)

    def log_likelihood(self, model):
        """Mean log-likelihood in nats per row before the last M-step, None if it isn't told."""
        bound = getattr(model, "lower_bound_", None)
        return None if bound is None else float(bound)

    def method(self, model, name):
        """A method of a fitted model, by the name that scikit-learn has for it."""
        return getattr(model, name)


class TensorPeer(Peer):
    """A library that works on tensors."""

    runs_on_gpu = True

    def prepare(self, X):
        import torch

        return torch.from_numpy(X).to(self.device)
