"""
Choose the number of components and the covariances
===================================================

The likelihood of the data always grows with more components and freer covariances. An information
criterion subtracts what would be gained by chance. This compares twenty-four mixtures of the same
data by the Bayesian information criterion (BIC), of which the smallest is best.
"""

# %%
# Three clusters of different shapes, so that we know what should come out.

import matplotlib.pyplot as plt
import numpy as np

from sklearn_torch_gmm import MixtureDisplay
from sklearn_torch_gmm.mixture import GaussianMixture

rng = np.random.default_rng(0)
X = np.concatenate(
    [
        rng.normal(size=(200, 2)) @ [[1.5, 1.2], [0.0, 0.4]],
        rng.normal(size=(200, 2)) * [0.4, 1.5] + [5, 2],
        rng.normal(size=(100, 2)) * 0.5 + [1, 5],
    ]
)  # [N, D]

# %%
# ``n_init`` starts share the passes over the data, so that several of them cost little.

numbers = range(1, 7)
mixtures = {
    (kind, k): GaussianMixture(k, covariance_type=kind, n_init=3, random_state=0).fit(X)
    for kind in ["full", "tied", "diag", "spherical"]
    for k in numbers
}
bic = {key: mixture.bic(X) for key, mixture in mixtures.items()}
best = min(bic, key=bic.get)
print(f"smallest BIC: {best[1]} components, {best[0]} covariances")

# %%
# On the left the criterion, on the right the mixture that it chose.

figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
for kind in ["full", "tied", "diag", "spherical"]:
    left.plot(numbers, [bic[kind, k] for k in numbers], marker="o", label=kind)
left.plot(best[1], bic[best], marker="*", markersize=18, color="black", linestyle="")
left.set(xlabel="number of components", ylabel="BIC")
left.legend()
MixtureDisplay.from_estimator(mixtures[best], X, ax=right)
plt.show()
