"""
Segment a photograph
====================

Each pixel is a row of five features: its colour and its place. The components of a mixture that is
fitted to all pixels are regions of similar colour, and the most probable component of a pixel is
the region that it belongs to.
"""

# %%
# The rows: red, green, blue, and the distances from the top and from the left. They have different
# units, so they are scaled. Every other pixel in both directions is enough for a picture this size.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm import GaussianMixture

photograph = load_sample_image("china.jpg")[::2, ::2] / 255  # [H, W, 3]
height, width, _ = photograph.shape
place = np.stack(np.mgrid[:height, :width], axis=-1)  # [H, W, 2]
rows = np.concatenate([photograph, place], axis=-1).reshape(-1, 5)  # [N, D]
print(f"{rows.shape[0]:,} rows of {rows.shape[1]} features")

# %%
# Full covariances let a region be long in any direction, in colour as in space.

mixture = GaussianMixture(8, covariance_type="full", random_state=0)
pipeline = make_pipeline(StandardScaler(), mixture)
labels = pipeline.fit_predict(rows)  # [N]
print(f"{mixture.n_iter_} iterations, converged: {mixture.converged_}")

# %%
# Paint each region in the mean colour of its pixels. How sure the mixture is of a pixel's region is
# the largest of its probabilities: it is low along the edges.

means = np.stack([rows[labels == k, :3].mean(axis=0) for k in range(8)])
certainty = pipeline.predict_proba(rows).max(axis=1)

figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
for ax, title, picture in zip(
    axes,
    ["photograph", "regions", "probability of the region"],
    [
        photograph,
        means[labels].reshape(photograph.shape),
        certainty.reshape(height, width),
    ],
    strict=True,
):
    drawn = ax.imshow(picture, cmap="gray")
    ax.set_title(title)
    ax.set_axis_off()
figure.colorbar(drawn, ax=axes[-1])
plt.show()
