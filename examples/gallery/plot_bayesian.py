"""
Bayesian mixture: components that the data do not need
======================================================

Maximum likelihood uses every component that it is given. Variational Bayes has a prior of the
weights, and nearly removes components that the data do not support. Here ten components are fitted to
two measurements of 178 Italian wines.
"""

# %%
# A small ``weight_concentration_prior`` expects few components. The class has the parameters of
# scikit-learn's class of the same name; :doc:`/bayesian` explains its priors.

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score

from sklearn_torch_gmm import MixtureDisplay
from sklearn_torch_gmm.mixture import BayesianGaussianMixture, GaussianMixture

wine = load_wine(as_frame=True)
X = wine.data[["flavanoids", "color_intensity"]]  # [N, D]

mixtures = {
    "maximum likelihood": GaussianMixture(10, random_state=0),
    "variational Bayes": BayesianGaussianMixture(
        n_components=10,
        weight_concentration_prior=1e-3,
        max_iter=1000,
        random_state=0,
    ),
}
for name, mixture in mixtures.items():
    weights = mixture.fit(X).weights_
    print(
        f"{name}: {(weights > 0.01).sum()} components with a weight above 1%"
    )

# %%
# The bars are the weights, in descending order.

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for i, (name, mixture) in enumerate(mixtures.items()):
    weights = sorted(mixture.weights_, reverse=True)
    ax.bar([rank + 0.4 * i for rank in range(1, 11)], weights, 0.4, label=name)
ax.set(xlabel="component", ylabel="weight", xticks=range(1, 11))
ax.legend()
plt.show()

# %%
# The ellipses contain 90% of each component with a weight above 1%.


figure, axes = plt.subplots(
    2, 1, figsize=(5.5, 7), layout="constrained", sharex=True, sharey=True
)
for ax, (name, mixture) in zip(axes, mixtures.items(), strict=True):
    display = MixtureDisplay.from_estimator(mixture, X, levels=[0.9], ax=ax)
    for ellipses, weight in zip(
        display.ellipses_, mixture.weights_, strict=True
    ):
        ellipses[0].set_visible(weight > 0.01)
    ax.set_title(name)
    ax.label_outer()
axes[0].set(xlim=(0, 5.5), ylim=(0, 14))
plt.show()

# %%
# The three components that are left correspond to the three cultivars, which the fit does not know.

agreement = adjusted_rand_score(wine.target, mixture.predict(X))
print(f"adjusted Rand index: {agreement:.2f}")
