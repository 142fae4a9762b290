"""The plot of ``docs/plotting.md`` and of the page of ``PairDisplay``."""

import numpy as np

from sklearn_torch_gmm import GaussianMixture, PairDisplay

rng = np.random.default_rng(0)
X = rng.normal(size=(300, 3)) * [1.0, 0.5, 2.0]
X[:100] += [4.0, 2.0, 0.0]
X[100:160] += [0.0, 3.0, 3.0]
mixture = GaussianMixture(3, covariance_type="full", random_state=0)
mixture.fit(X)
display = PairDisplay.from_estimator(mixture, X)
display.figure_.set_size_inches(5.5, 5.5)
