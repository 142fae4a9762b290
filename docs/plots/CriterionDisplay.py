"""The plot of ``docs/plotting.md`` and of the page of ``CriterionDisplay``."""

import matplotlib.pyplot as plt
import numpy as np

from sklearn_torch_gmm import GaussianMixtureIC

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 3)) * [1.0, 0.5, 2.0]
X[:100] += [4.0, 2.0, 0.0]
X[100:160] += [0.0, 3.0, 3.0]
search = GaussianMixtureIC(1, 6, n_init=5, stability=True, random_state=0)
search.fit(X)
figure, axes = plt.subplots(3, 1, figsize=(5.5, 7.5), sharex=True)
search.plot(axes, criteria=["bic", "icl", "stability"])
for ax in axes:
    ax.label_outer()
