"""
Density estimation
==================

A mixture is a density model: at each point, the density says how much probability is nearby. Here it
is fitted to two measurements of 178 Italian wines, and drawn as contours.
"""

# %%
# The two features are skewed, and the ranges of the three cultivars differ. A single normal
# distribution fits them poorly; a mixture fits them better.

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.model_selection import cross_val_score

from sklearn_torch_gmm import GaussianMixture, MixtureDisplay

wine = load_wine(as_frame=True).data
X = wine[["flavanoids", "color_intensity"]]

figure, axes = plt.subplots(
    3, 1, figsize=(5.5, 8.5), layout="constrained", sharex=True, sharey=True
)
for ax, num_components in zip(axes, [1, 3, 12], strict=True):
    mixture = GaussianMixture(
        num_components, covariance_type="full", random_state=0
    ).fit(X)
    MixtureDisplay.from_estimator(
        mixture, X, density=True, levels=[0.5], ax=ax
    )
    fitted = mixture.score(X)
    held_out = cross_val_score(mixture, X, cv=10).mean()
    ax.set_title(
        f"K = {num_components}: {fitted:.2f} nats, held out {held_out:.2f}"
    )
    ax.label_outer()
axes[0].set_ylim(0, 14)
plt.show()

# %%
# Each ellipse contains half of its component, and the grey contours are one nat apart. The titles
# give the mean log-density of the wines in the fit, and of held-out wines: with twelve components
# the former rises and the latter falls. That is overfitting.
#
# The unit of a density is one over the product of the features' units. A density is not a
# probability, and may exceed one: measured in thousands of the same units, the same wines are a
# million times as dense.

mixture = GaussianMixture(
    3, covariance_type="full", covariance_regularization=1e-12, random_state=0
)
X = X.to_numpy()
for unit, values in [("original units", X), ("thousands", X / 1000)]:
    log_density = mixture.fit(values).score(values)
    print(f"log-density in {unit}: {log_density:.2f} nats per sample")
