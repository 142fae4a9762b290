"""Searches for the number of components, and the rows that tests of them work on."""

import numpy as np
import pandas as pd

from sklearn_torch_gmm import GaussianMixtureIC


def three_groups():
    """240 rows ``[N, 3]``."""
    rng = np.random.default_rng(0)
    centres = np.array([[0.0, 0.0, 0.0], [4.0, 0.0, 1.0], [0.0, 5.0, 2.0]])
    return centres[rng.integers(3, size=240)] + rng.normal(size=(240, 3)) * [1.0, 0.7, 0.5]


def search_for(low=1, high=4, **options):
    return GaussianMixtureIC(low, high, **{"random_state": 0} | options)


def rows_of(search):
    """The table row by row."""
    return pd.DataFrame(search.results_).to_dict("records")
