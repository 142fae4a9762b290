"""
Plots of a mixture: criteria, features, uncertainty, convergence
================================================================

Four questions about a mixture, and a display that answers each: how many components it has, where
they are, which samples lie between them, and whether the fit converged. The data are measurements of
178 Italian wines from three cultivars. :doc:`/plotting` describes all options.
"""

# %%
# How many components? :class:`~sklearn_torch_gmm.CriterionDisplay` draws one or more criteria of a
# search. Both BIC and ICL, which also penalizes uncertain labels, are smallest for four components
# with full covariances.

import matplotlib.pyplot as plt
from sklearn.datasets import load_wine

from sklearn_torch_gmm import (
    ConvergenceDisplay,
    CriterionDisplay,
    GaussianMixtureIC,
    PairDisplay,
    ResponsibilityDisplay,
)
from sklearn_torch_gmm.mixture import GaussianMixture

wine = load_wine(as_frame=True)
X = wine.data[["alcohol", "flavanoids", "color_intensity"]]  # [N, D]

search = GaussianMixtureIC(1, 6, n_init=5, random_state=0).fit(X)
figure, axes = plt.subplots(
    2, 1, figsize=(5.5, 5.5), layout="constrained", sharex=True
)
CriterionDisplay.from_estimator(search, criteria=["bic", "icl"], ax=axes)
axes[0].set_xlabel("")
plt.show()

# %%
# Where are the components? :class:`~sklearn_torch_gmm.PairDisplay` draws all pairs of features, and
# the density of each feature. Like the displays below, it takes a mixture or a search.

display = PairDisplay.from_estimator(search, X)
display.figure_.set_size_inches(5.5, 5.5)
plt.show()

# %%
# Which samples lie between them? :class:`~sklearn_torch_gmm.ResponsibilityDisplay` draws the
# uncertainty of each label: the probability that the sample belongs to another component.

display = ResponsibilityDisplay.from_estimator(
    search, X, features=["flavanoids", "color_intensity"]
)
display.figure_.set_size_inches(5.5, 3.8)
plt.show()

# %%
# The uncertainty is justified: wines with uncertain labels are often from another cultivar than the
# majority of their component, and others rarely are.

uncertainty = 1 - search.predict_proba(X).max(axis=1)
labels = search.predict(X)
largest = wine.target.groupby(labels).agg(lambda group: group.mode()[0])
differs = largest[labels].to_numpy() != wine.target
for name, group in [
    ("uncertainty above 0.1", uncertainty > 0.1),
    ("uncertainty below 0.1", uncertainty <= 0.1),
]:
    print(
        f"{name}: {group.sum():3} wines, "
        f"{differs[group].mean():.0%} from another cultivar"
    )

# %%
# Did the fit converge? :class:`~sklearn_torch_gmm.ConvergenceDisplay` draws the log-likelihood at
# each iteration. A dot at the end says that it did; a cross would say that it did not. The two
# initializations lead to different local maxima, which is why the search used five of each.

figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
for init_params in ["kmeans", "random"]:
    mixture = GaussianMixture(4, init_params=init_params, random_state=0)
    ConvergenceDisplay.from_estimator(mixture.fit(X), ax, name=init_params)
plt.show()
