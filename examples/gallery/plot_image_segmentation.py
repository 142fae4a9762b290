"""
Segment a photograph
====================

Each pixel is a sample with five features: its colour and its position. A mixture is fitted to all
pixels. Its components are regions of similar colour, and the most probable component of a pixel is
the region that it belongs to.
"""

# %%
# The features are red, green, blue, and the distances from the top and from the left. They have
# different units, so they are scaled. Every other pixel in both directions is enough for a figure of
# this size.

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
print(f"{rows.shape[0]:,} samples with {rows.shape[1]} features")

# %%
# With full covariances, a region can be elongated in any direction of colour and space.

mixture = GaussianMixture(8, covariance_type="full", random_state=0)
pipeline = make_pipeline(StandardScaler(), mixture)
labels = pipeline.fit_predict(rows)  # [N]
print(f"{mixture.n_iter_} iterations, converged: {mixture.converged_}")

# %%
# Each region is painted in the mean colour of its pixels. The largest probability of a pixel tells
# how certain its region is: it is low along the edges.

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
