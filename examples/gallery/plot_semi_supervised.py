"""
Semi-supervised classification: a few labels and many samples
=============================================================

Labels are expensive, samples often are not. :class:`~sklearn_torch_gmm.GaussianMixtureClassifier`
fits a mixture to all samples, and the labels only have to say which component belongs to which class.
Here it is compared with logistic regression, which learns from the labelled samples only;
:doc:`/semi_supervised` compares it with other semi-supervised methods.
"""

# %%
# Handwritten digits, reduced to twenty dimensions. Half of them are for testing.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from sklearn_torch_gmm import GaussianMixtureClassifier

images, digits = load_digits(return_X_y=True)
X = PCA(20, whiten=True, random_state=0).fit_transform(images)  # [N, D]
X, X_test, digits, digits_test = train_test_split(
    X, digits, test_size=0.5, stratify=digits, random_state=0
)

# %%
# The label -1 means that a sample is unlabelled. From 2 to 20 digits of each class keep their label;
# each number is repeated with ten random choices. One covariance matrix for all classes makes the
# mixture the semi-supervised version of linear discriminant analysis.

rng = np.random.default_rng(0)
numbers = [2, 3, 5, 10, 20]
mixture = GaussianMixtureClassifier(covariance_type="tied", reg_covar=1e-2)
accuracy = {
    "all samples, mixture": np.empty((len(numbers), 10)),
    "labelled samples, logistic regression": np.empty((len(numbers), 10)),
}
for i, number in enumerate(numbers):
    for j in range(10):
        y = np.full(len(digits), -1)
        for digit in range(10):
            of_class = np.flatnonzero(digits == digit)
            y[rng.choice(of_class, number, replace=False)] = digit
        labelled = y != -1
        models = [
            mixture.fit(X, y),
            LogisticRegression(max_iter=1000).fit(X[labelled], y[labelled]),
        ]
        for values, model in zip(accuracy.values(), models, strict=True):
            values[i, j] = model.score(X_test, digits_test)

for name, values in accuracy.items():
    print(f"{name}: accuracy {values[0].mean():.0%} with two labels per digit")

# %%
# The unlabelled samples show where the clusters are, so a few labels suffice to name them. With more
# labels, the difference disappears.

figure, ax = plt.subplots(figsize=(5.5, 3.8), layout="constrained")
for name, values in accuracy.items():
    ax.errorbar(
        numbers,
        values.mean(1),
        values.std(1),
        marker="o",
        capsize=3,
        label=name,
    )
ax.set(
    xscale="log",
    xticks=numbers,
    xticklabels=numbers,
    xlabel="labels for each digit",
    ylabel="accuracy on other digits",
)
ax.minorticks_off()
ax.legend()
plt.show()
