import torch
from torchgmm.bayes import GaussianMixture

from benchmarks.peers.base import Fitted, TensorPeer


class TorchGMM(TensorPeer):
    """torchgmm, the fork of PyCave.

    Its start can be given by means alone: rows go to the nearest of them. `max_epochs` is the
    number of EM iterations, each of which it does in two passes when the data are one batch.
    """

    needs_means = True

    def fit(self, X, settings):
        trainer_params = {
            "accelerator": "cpu" if self.device == "cpu" else "gpu",
            "devices": 1,
            "precision": 64 if getattr(X, "dtype", None) == torch.float64 else 32,
            "max_epochs": settings.iterations or 100,
            "logger": False,
            "enable_progress_bar": False,
            "enable_checkpointing": False,
            "enable_model_summary": False,
        }
        options = self.given(
            covariance_type=settings.covariance,
            init_means=settings.means,
            convergence_tolerance=None if settings.iterations is None else 0,
            covariance_regularization=settings.regularization,
            batch_size=settings.batch_size,
        )
        torch.manual_seed(0)
        return GaussianMixture(settings.components, trainer_params=trainer_params, **options).fit(X)

    def fitted(self, model):
        module = model.model_
        parameters = (module.component_probs, module.means, module.covariances)
        return Fitted(*(values.detach().numpy() for values in parameters), bool(model.converged_))

    def iterations(self, model):
        return int(model.num_iter_)

    def log_likelihood(self, model):
        return -float(model.nll_)
