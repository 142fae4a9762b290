"""The libraries by name, one file each; a library is imported when it is asked for."""

from pkgutil import resolve_name
from typing import NamedTuple


class Entry(NamedTuple):
    """Where a library is, and what its process needs."""

    place: str
    distribution: str
    """What it is called on PyPI."""

    imports: str
    """What a user writes to import it."""

    environment: dict[str, str] = {}  # noqa: RUF012

    def load(self):
        return resolve_name(f"benchmarks.peers.{self.place}")


OURS = "sklearn_torch_gmm"

PEERS = {
    OURS: Entry("ours:Ours", "sklearn-torch-gmm", "import sklearn_torch_gmm"),
    "scikit-learn": Entry("scikit_learn:ScikitLearn", "scikit-learn", "import sklearn.mixture"),
    "scikit-learn, torch": Entry(
        "scikit_learn_torch:ScikitLearnTorch",
        "scikit-learn",
        "import torch, sklearn.mixture",
        {"SCIPY_ARRAY_API": "1"},
    ),
    "daal4py": Entry("daal4py:Daal4py", "scikit-learn-intelex", "import daal4py"),
    "torchgmm": Entry("torchgmm:TorchGMM", "torchgmm", "from torchgmm import bayes"),
    "pomegranate": Entry("pomegranate:Pomegranate", "pomegranate", "import pomegranate.gmm"),
    "tgmm": Entry("tgmm:TGMM", "tgmm", "import tgmm"),
}

BASELINE = "torch and scikit-learn"
"""What an import is compared with."""
