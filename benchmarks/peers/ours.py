from dataclasses import replace

import torch

import sklearn_torch_gmm.mixture
from benchmarks.peers.scikit_learn import ScikitLearn
from sklearn_torch_gmm.em.recent_clusters import recent_clusters


class Ours(ScikitLearn):
    """This package, by the class with scikit-learn's parameters; on a GPU, with tensors."""

    module = sklearn_torch_gmm.mixture
    runs_on_gpu = True

    def prepare(self, X):
        return X if self.device == "cpu" else torch.from_numpy(X).to(self.device)

    def options(self, settings):
        options = super().options(replace(settings, batch_size=None))
        return options | self.given(batch_size=settings.batch_size)

    def forget(self):
        recent_clusters.clear()

    def unfitted(self, settings, **options):
        # A GPU would be used unasked.
        if torch.cuda.is_available():
            options["trainer_params"] = {"accelerator": self.device}
        return super().unfitted(settings, **options)
