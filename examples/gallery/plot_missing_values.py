"""
Missing values
==============

With ``missing="em"``, NaN marks a value that was not observed, and EM maximizes the likelihood of
the observed values. This example compares the resulting clusters with those of imputed data, and
imputes the missing values from the mixture.
"""

# %%
# Four clusters in six dimensions; a quarter of the values are missing. Less than a fifth of the
# samples are complete.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.experimental import enable_iterative_imputer  # noqa: F401
from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer
from sklearn.metrics import adjusted_rand_score

from sklearn_torch_gmm.impute import GaussianMixtureImputer
from sklearn_torch_gmm.mixture import GaussianMixture

rng = np.random.default_rng(0)
means, roots = 2.2 * rng.normal(size=(4, 6)), 0.7 * rng.normal(size=(4, 6, 6))
clusters = rng.integers(0, 4, 2000)
X = means[clusters] + np.einsum(
    "nij,nj->ni", roots[clusters], rng.normal(size=(2000, 6))
)
is_missing = rng.random(X.shape) < 0.25
incomplete = np.where(is_missing, np.nan, X)
print(f"{np.mean(~is_missing.any(axis=1)):.0%} of the samples are complete")

# %%
# One mixture is fitted to the incomplete data, the others to imputed data. ``predict`` uses the
# marginal density of the observed values of a sample.

params = {"n_components": 4, "n_init": 5, "random_state": 0}
labels = {"complete data": GaussianMixture(**params).fit_predict(X)}
labels['missing="em"'] = GaussianMixture(missing="em", **params).fit_predict(
    incomplete
)
imputers = {
    "mixture": GaussianMixtureImputer(**params),
    "IterativeImputer": IterativeImputer(random_state=0),
    "KNNImputer": KNNImputer(),
    "SimpleImputer": SimpleImputer(),
}
filled = {
    name: imputer.fit_transform(incomplete)
    for name, imputer in imputers.items()
}
for name, values in filled.items():
    labels[name] = GaussianMixture(**params).fit_predict(values)

print("adjusted Rand index   error of the imputed values")
for name, found in labels.items():
    error = ""
    if name in filled:
        error = f"{np.sqrt(np.mean((filled[name] - X)[is_missing] ** 2)):.2f}"
    print(f"{name:<18}{adjusted_rand_score(clusters, found):.3f}   {error}")

# %%
# The plots show the imputed values of two features. ``SimpleImputer`` ignores the other features,
# while the mixture places the values inside their clusters. Like all expected values, they scatter
# less than observed ones; random draws, with ``sample_posterior=True``, have the right spread.

drawn = GaussianMixtureImputer(sample_posterior=True, **params).fit_transform(
    incomplete
)
panels = {
    "complete": X,
    "SimpleImputer": filled["SimpleImputer"],
    "mixture": filled["mixture"],
    "mixture, drawn": drawn,
}
figure, axes = plt.subplots(
    2, 2, figsize=(5.5, 5.5), layout="constrained", sharex=True, sharey=True
)
has_gap = is_missing[:, :2].any(axis=1)
for ax, (name, values) in zip(axes.flat, panels.items(), strict=True):
    ax.scatter(*values[~has_gap, :2].T, s=2, color="0.75")
    ax.scatter(
        *values[has_gap, :2].T, s=3, c=clusters[has_gap], cmap="tab10", vmax=9
    )
    ax.set_title(name)
plt.show()
