"""
Model selection: the number of components and the covariance type
=================================================================

The likelihood of the data always grows with more components and more general covariances. An
information criterion subtracts the gain expected by chance. This example compares twenty-four
mixtures by the Bayesian information criterion (BIC); the smallest BIC is the best.
"""

# %%
# Three clusters of different shapes, so that the right answer is known.

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
# All mixtures share the passes over the data, with three initializations each.

search = GaussianMixtureIC(1, 6, n_init=3, random_state=0).fit(X)
print("number of components with the smallest BIC:", search.n_components_)
print("covariance type:", search.covariance_type_)

# %%
# At the top is the criterion, at the bottom the mixture that it selected.

figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(5.5, 7), layout="constrained"
)
search.plot(top)
MixtureDisplay.from_estimator(search.best_estimator_, X, ax=bottom)
plt.show()
