"""A parameter under another name is told by the name that it has in the class."""

import numpy as np
import pytest
from sklearn.base import clone

from sklearn_torch_gmm import GaussianMixture as Documented
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

NAMES = [
    ("n_components", "num_components"),
    ("tol", "convergence_tolerance"),
    ("reg_covar", "covariance_regularization"),
    ("n_init", "num_init"),
    ("init_params", "init_strategy"),
    ("means_init", "init_means"),
]


@pytest.mark.parametrize(("theirs", "ours"), NAMES)
def test_the_name_of_the_other_class(theirs, ours):
    with pytest.raises(
        TypeError, match=rf"_mixture\.GaussianMixture has .* '{theirs}': it is {ours}"
    ):
        Documented(**{theirs: 1})
    with pytest.raises(
        TypeError, match=rf"mm\.mixture\.GaussianMixture has .* '{ours}': it is {theirs}"
    ):
        DropIn(**{ours: 1})


@pytest.mark.parametrize(
    ("face", "name", "hint"),
    [
        (Documented, "max_iter", r"trainer_params=\{'max_epochs'"),
        (Documented, "max_epochs", r"trainer_params=\{'max_epochs'"),
        (DropIn, "max_epochs", "it is max_iter"),
        (Documented, "device", "'accelerator'"),
        (DropIn, "device", "'accelerator'"),
        (DropIn, "n_jobs", "set_num_threads"),
        (Documented, "trainer", "pass its keyword arguments, as trainer_params="),
        (DropIn, "trainer", "pass its keyword arguments, as trainer_params="),
        (Documented, "warm_start", "partial_fit"),
        (Documented, "weights_init", "from_parameters"),
        (Documented, "num_component", "did you mean num_components"),
        (DropIn, "covariance_typ", "did you mean covariance_type"),
        (DropIn, "qqq", "it takes n_components, covariance_type"),
    ],
)
def test_other_libraries_and_misspelt_names(face, name, hint):
    with pytest.raises(TypeError, match=rf"has no parameter '{name}': .*{hint}"):
        face(2, **{name: 1})


def test_a_misspelt_parameter_of_the_trainer():
    X = np.arange(20.0).reshape(10, 2)
    with pytest.raises(TypeError, match=r"'callback', which .* Did you mean callbacks\?"):
        Documented(2, trainer_params={"callback": []}).fit(X)


@pytest.mark.parametrize("face", [Documented, DropIn])
def test_a_subclass_may_have_parameters_of_its_own(face):
    class Own(face):
        def __init__(self, n_topics=3, *, random_state=None):
            super().__init__(n_topics, random_state=random_state)
            self.n_topics = n_topics

    class Any(face):
        def __init__(self, **params):
            super().__init__(**params)

    assert clone(Own(n_topics=2)).n_topics == 2
    with pytest.raises(TypeError, match="did you mean n_topics"):
        Own(n_topic=2)
    assert Any(covariance_type="tied").covariance_type == "tied"
