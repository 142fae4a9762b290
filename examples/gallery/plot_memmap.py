"""
Out-of-core: fit a file that doesn't fit into memory
====================================================

A memory-mapped array is read in place, batch by batch. One epoch is one exact iteration of EM, so
the size of the batches affects only the memory that is needed.
"""

# %%
# Half a million samples in a file, which is also written in parts. A real file may be far larger than
# the memory.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from sklearn_torch_gmm import GaussianMixture, MixtureDisplay

folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "samples.npy"
centres = np.array(
    [[0.0, 0.0, 0.0], [6.0, 0.0, 2.0], [0.0, 6.0, 4.0], [7.0, 7.0, 0.0]]
)
rng = np.random.default_rng(0)
samples = np.lib.format.open_memmap(
    path, mode="w+", dtype=np.float32, shape=(500_000, 3)
)
for first in range(0, len(samples), 50_000):
    components = rng.integers(4, size=50_000)
    samples[first : first + 50_000] = centres[components] + 1.6 * rng.normal(
        size=(50_000, 3)
    )
samples.flush()
print(f"{path.stat().st_size / 1e6:.0f} MB on disk")

# %%
# ``batch_size`` is the number of samples in memory at a time. The mixture is the same as that of
# a fit in memory, up to rounding.

X = np.load(path, mmap_mode="r")
params = {
    "init_means": centres + 0.5,
    "covariance_type": "full",
    "random_state": 0,
}
streamed = GaussianMixture(4, batch_size=20_000, **params).fit(X)
whole = GaussianMixture(4, **params).fit(np.array(X))
print("iterations:", streamed.n_iter_, "and", whole.n_iter_)
difference = abs(streamed.means_ - whole.means_).max()
print(f"largest difference of a mean: {difference:.0e}")

# %%
# Predictions also read the file batch by batch. For a plot, a subset is sufficient.

labels = streamed.predict(X)  # [N]
print("samples per component:", np.bincount(labels))

MixtureDisplay.from_estimator(streamed, X[::500], features=(0, 1))
plt.show()

# %%
# Other sources, such as a database or a generator, are passed as a
# ``torch.utils.data.IterableDataset`` or as a ``DataLoader``: :doc:`/out_of_core`.

del samples, X
folder.cleanup()
