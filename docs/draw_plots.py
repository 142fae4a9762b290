"""The plot in the README and on the landing page, in docs/images.

python docs/draw_plots.py
"""

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from sklearn_torch_gmm import GaussianMixture, MixtureDisplay

PLOT = Path(__file__).parent / "images" / "mixture.png"


def main() -> None:
    rng = np.random.default_rng(0)
    X = np.concatenate(
        [
            rng.normal(size=(500, 2)) @ [[1.6, 0.9], [0.0, 0.5]],
            rng.normal(size=(400, 2)) @ [[0.5, 0.0], [-0.4, 1.3]] + [5.5, 1.0],
            rng.normal(size=(300, 2)) * 0.6 + [1.5, 4.0],
        ]
    )
    mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    ax = figure.subplots()
    MixtureDisplay.from_estimator(
        mixture, X, ax=ax, levels=(0.5, 0.95), density=True
    )
    ax.set(xlabel="", ylabel="", xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    figure.savefig(PLOT, dpi=150)


if __name__ == "__main__":
    main()
