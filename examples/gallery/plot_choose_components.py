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

from sklearn_torch_gmm import GaussianMixtureIC, MixtureDisplay

rng = np.random.default_rng(0)
X = np.concatenate(
    [
        rng.normal(size=(200, 2)) @ [[1.5, 1.2], [0.0, 0.4]],
        rng.normal(size=(200, 2)) * [0.4, 1.5] + [5, 2],
        rng.normal(size=(100, 2)) * 0.5 + [1, 5],
    ]
)  # [N, D]

# %%
# All mixtures share the passes over the data, three starts of each.

search = GaussianMixtureIC(1, 6, n_init=3, random_state=0).fit(X)
print(
    f"smallest BIC: {search.n_components_} components, {search.covariance_type_} covariances"
)

# %%
# On the left the criterion, on the right the mixture that it chose.

figure, (left, right) = plt.subplots(
    1, 2, figsize=(10, 3.8), layout="constrained"
)
search.plot(left)
MixtureDisplay.from_estimator(search.best_estimator_, X, ax=right)
plt.show()
