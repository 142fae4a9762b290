"""
Grid search in a pipeline
=========================

Both classes are estimators like scikit-learn's own: they can be a step of a pipeline, and their
parameters can be searched. ``score`` is the mean log-density of the samples. Larger is better, so a
search without ``scoring`` finds the mixture that describes held-out samples best.
"""

# %%
# A name such as ``gaussianmixture__num_components`` is a parameter of a step, as everywhere in
# scikit-learn. The scaler is fitted within each fold too.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_wine
from sklearn.metrics import adjusted_rand_score
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm import GaussianMixture

X, cultivar = load_wine(return_X_y=True)  # [178, 13]
numbers = [1, 2, 3, 4, 5, 6]
kinds = ["tied", "diag", "spherical"]
search = GridSearchCV(
    make_pipeline(StandardScaler(), GaussianMixture(random_state=0)),
    {
        "gaussianmixture__num_components": numbers,
        "gaussianmixture__covariance_type": kinds,
    },
    cv=KFold(5, shuffle=True, random_state=0),
).fit(X)
for name, value in search.best_params_.items():
    print(f"{name}: {value}")

# %%
# The samples of ``wine`` are ordered by cultivar, hence the shuffled folds. The search does not
# know the cultivars, but finds them.

agreement = adjusted_rand_score(cultivar, search.predict(X))
print(f"agreement with the cultivars (adjusted Rand index): {agreement:.2f}")

# %%
# For each covariance type, the curve rises as long as a further component improves the fit to
# held-out samples, and then falls.

results = search.cv_results_
scores = results["mean_test_score"].reshape(len(kinds), len(numbers))
errors = results["std_test_score"].reshape(scores.shape) / np.sqrt(
    search.n_splits_
)
figure, ax = plt.subplots(figsize=(5.5, 3.6), layout="constrained")
for kind, score, error in zip(kinds, scores, errors, strict=True):
    ax.errorbar(numbers, score, error, marker="o", capsize=3, label=kind)
ax.set(
    xlabel="number of components",
    ylabel="held-out log-density, nats per sample",
)
ax.legend()
plt.show()
