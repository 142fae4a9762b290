"""Names that other clusterers have for a parameter, and near misses."""

import pytest

import sklearn_torch_gmm
import sklearn_torch_gmm.mixture


def test_the_name_of_other_clusterers():
    with pytest.raises(TypeError, match="'n_clusters': it is num_components in this class"):
        sklearn_torch_gmm.GaussianMixture(n_clusters=2)
    with pytest.raises(TypeError, match="'n_clusters': it is n_components in this class"):
        sklearn_torch_gmm.mixture.GaussianMixture(n_clusters=2)


def test_a_name_that_looks_like_one_is_a_question():
    with pytest.raises(TypeError, match=r"did you mean num_components\?$"):
        sklearn_torch_gmm.GaussianMixture(num_component=2)
