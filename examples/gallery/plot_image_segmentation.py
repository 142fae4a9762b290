"""
Image segmentation
==================

Each pixel is a sample with five features: its colour and its position. A mixture is fitted to all
pixels. Each component is a region of similar colour, and a pixel belongs to the region of its most
probable component.
"""

# %%
# The features are red, green, blue, and the distances from the top and from the left. They have
# different units, so they are scaled. Every other pixel in both directions is sufficient for a figure
# of this size.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_sample_image
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_torch_gmm import GaussianMixture

photograph = load_sample_image("china.jpg")[::2, ::2] / 255  # [H, W, 3]
height, width, _ = photograph.shape
position = np.stack(np.mgrid[:height, :width], axis=-1)  # [H, W, 2]
X = np.concatenate([photograph, position], axis=-1).reshape(-1, 5)  # [N, D]
print(f"{X.shape[0]:,} samples with {X.shape[1]} features")

# %%
# With full covariances, a region can be elongated in any direction of colour and space.

mixture = GaussianMixture(8, covariance_type="full", random_state=0)
pipeline = make_pipeline(StandardScaler(), mixture)
labels = pipeline.fit_predict(X)  # [N]
print(f"{mixture.n_iter_} iterations, converged: {mixture.converged_}")

# %%
# Each region is painted in the mean colour of its pixels. The largest responsibility of a
# pixel shows how certain its region is: it is low along the edges.

means = np.stack([X[labels == k, :3].mean(axis=0) for k in range(8)])
certainty = pipeline.predict_proba(X).max(axis=1)

figure, axes = plt.subplots(3, 1, figsize=(5.5, 10), layout="constrained")
for ax, title, image in zip(
    axes,
    ["photograph", "regions", "probability of the region"],
    [
        photograph,
        means[labels].reshape(photograph.shape),
        certainty.reshape(height, width),
    ],
    strict=True,
):
    shown = ax.imshow(image, cmap="gray")
    ax.set_title(title)
    ax.set_axis_off()
figure.colorbar(shown, ax=axes[-1])
plt.show()
