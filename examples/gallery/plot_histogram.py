"""
Sample weights: fit a histogram
===============================

Detectors, surveys and databases often store counts instead of events. ``sample_weight`` accepts
them: a sample of weight 40 counts as 40 samples. A fit to 120 bins takes as long as a fit to
120 samples.
"""

# %%
# A million events with two peaks over a broad background. Only the counts are kept.

from time import perf_counter

import matplotlib.pyplot as plt
import numpy as np

from sklearn_torch_gmm.mixture import GaussianMixture

rng = np.random.default_rng(0)
events = np.concatenate(
    [
        rng.normal(91, 2.5, 300_000),
        rng.normal(125, 1.8, 100_000),
        rng.normal(105, 15, 600_000),
    ]
)
counts, edges = np.histogram(events, bins=120, range=(45, 165))
centres = (edges[:-1] + edges[1:]) / 2
print(f"{counts.sum():,} events in {len(counts)} bins")

# %%
# The events and their histogram, with the same initialization.

params = {
    "weights_init": [0.4, 0.2, 0.4],
    "means_init": [[90], [124], [100]],
    "precisions_init": [[[0.1]], [[0.1]], [[0.01]]],
    "tol": 1e-8,
    "max_iter": 2000,
}
fits = {}
for name, X, weights in [
    ("events", events, None),
    ("histogram", centres, counts),
]:
    began = perf_counter()
    fits[name] = GaussianMixture(3, **params).fit(
        X[:, None], sample_weight=weights
    )
    seconds = perf_counter() - began
    print(f"{name}: {seconds:.2f} s, {fits[name].n_iter_} iterations")

# %%
# Binning with bins of width h adds h² / 12 to each variance, here 0.083. Sheppard's correction
# subtracts it.

fitted = fits["histogram"]
print("                weight    mean      sd")
for name, mixture, correction in [
    ("events", fits["events"], 0.0),
    ("histogram", fitted, 1 / 12),
]:
    for k in range(3):
        weight, mean = mixture.weights_[k], mixture.means_[k, 0]
        sd = np.sqrt(mixture.covariances_[k, 0, 0] - correction)
        print(f"{name:<14}{weight:8.4f}{mean:8.2f}{sd:8.3f}")

# %%
# The density times the number of events and the width of a bin is the expected count.

x = np.linspace(45, 165, 500)[:, None]
expected = counts.sum() * np.diff(edges)[0]
density = np.exp(fitted.score_samples(x))
figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
ax.stairs(counts, edges, fill=True, alpha=0.4, label="counts")
ax.plot(x, expected * density, color="black", label="mixture")
for k, share in enumerate(fitted.predict_proba(x).T):
    ax.plot(x, expected * density * share, "--", label=f"component {k}")
ax.set(xlabel="energy", ylabel="events per bin")
ax.legend()
plt.show()
