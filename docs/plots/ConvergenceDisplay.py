"""The plot of ``docs/plotting.md`` and of the page of ``ConvergenceDisplay``."""

import numpy as np

from sklearn_torch_gmm import ConvergenceDisplay, GaussianMixture

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 3)) * [1.0, 0.5, 2.0]
X[:100] += [4.0, 2.0, 0.0]
X[100:160] += [0.0, 3.0, 3.0]
mixture = GaussianMixture(3, covariance_type="full", random_state=0)
mixture.fit(X)
display = ConvergenceDisplay.from_estimator(mixture, name="K-means")
at_random = GaussianMixture(
    3, covariance_type="full", init_strategy="random", random_state=0
)
at_random.fit(X)
ConvergenceDisplay.from_estimator(at_random, display.ax_, name="random")
display.figure_.set_size_inches(5.5, 3.4)
