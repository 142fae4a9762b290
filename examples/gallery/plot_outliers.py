"""
Outlier detection by low density
================================

A mixture that was fitted to normal data assigns a low density to everything else. Here it learns
only from benign tumours, and is then applied to other tumours of both kinds.
:doc:`/out_of_distribution` has the general method.
"""

# %%
# There are thirty measurements of each of 569 tumours, 357 of them benign. Two thirds of the benign
# ones are used for the fit. Many measurements are redundant, hence the principal components.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.decomposition import PCA
from sklearn.metrics import RocCurveDisplay
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PowerTransformer

from sklearn_torch_gmm import GaussianMixture

data, is_benign = load_breast_cancer(return_X_y=True)
benign, malignant = data[is_benign == 1], data[is_benign == 0]
known, unseen = train_test_split(benign, test_size=1 / 3, random_state=0)

model = make_pipeline(
    PowerTransformer(),
    PCA(10, whiten=True),
    GaussianMixture(
        2,
        covariance_type="full",
        covariance_regularization=1e-2,
        random_state=0,
    ),
).fit(known)

# %%
# The threshold comes from the normal data only: the density that 5% of them fall below. More
# of the unseen benign tumours do, because the mixture was not fitted to them.

threshold = np.quantile(model.score_samples(known), 0.05)
scores = {
    "benign, unseen": model.score_samples(unseen),
    "malignant": model.score_samples(malignant),
}
for name, score in scores.items():
    share = np.mean(score < threshold)
    print(f"{name}: {share:.0%} of {len(score)} below the threshold")

# %%
# The ROC curve shows all thresholds.

figure, (top, bottom) = plt.subplots(
    2, 1, figsize=(5.5, 8), layout="constrained"
)
bins = np.linspace(-60, 0, 50)
for name, score in scores.items():
    top.hist(score.clip(bins[0]), bins, density=True, alpha=0.6, label=name)
top.axvline(threshold, color="black", linestyle="--", label="threshold")
top.set(
    xlabel="log-density in nats; values below -60 at the left", ylabel="share"
)
top.legend(loc="upper left")
RocCurveDisplay.from_predictions(
    np.repeat([0, 1], [len(unseen), len(malignant)]),
    -np.concatenate(list(scores.values())),
    name="low density",
    ax=bottom,
)
plt.show()
