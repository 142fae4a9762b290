import sklearn

from benchmarks.peers.base import NotOffered, TensorPeer
from benchmarks.peers.scikit_learn import ScikitLearn


class ScikitLearnTorch(TensorPeer, ScikitLearn):
    """scikit-learn on tensors, by array API dispatch; it needs SCIPY_ARRAY_API=1 when it starts."""

    def __init__(self, device="cpu"):
        super().__init__(device)
        sklearn.set_config(array_api_dispatch=True)

    def unfitted(self, settings, **options):
        if "means_init" not in options:
            raise NotOffered("k-means takes no tensors")
        return super().unfitted(settings, **options)
