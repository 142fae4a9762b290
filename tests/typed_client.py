"""What a type checker makes of a user's program: read by mypy in `tox -e types`, never run."""

import numpy as np
from typing_extensions import assert_type

import sklearn_torch_gmm
from sklearn_torch_gmm import GaussianMixture, GaussianMixtureClassifier, GaussianMixtureIC
from sklearn_torch_gmm.core.covariance import CovarianceType
from sklearn_torch_gmm.mixture import GaussianMixture as ScikitLearnsFace

X = np.zeros((10, 2))


class Subclass(ScikitLearnsFace):
    """A user's own."""


def methods_return_the_class_that_they_are_called_on() -> None:
    assert_type(GaussianMixture(2).fit(X), GaussianMixture)
    assert_type(GaussianMixture(2).partial_fit(X), GaussianMixture)
    assert_type(GaussianMixture(2).set_params(num_components=3), GaussianMixture)
    assert_type(GaussianMixture(2).clone(), GaussianMixture)
    assert_type(GaussianMixture.load("model"), GaussianMixture)
    assert_type(ScikitLearnsFace(2).fit(X), ScikitLearnsFace)
    assert_type(Subclass(2).fit(X), Subclass)
    assert_type(Subclass.from_parameters([1.0], [[0.0]], [[1.0]], covariance_type="diag"), Subclass)
    assert_type(GaussianMixtureIC(1, 3).fit(X), GaussianMixtureIC)
    assert_type(GaussianMixtureClassifier().fit(X, np.zeros(10)), GaussianMixtureClassifier)


def attributes_have_types() -> None:
    mixture = GaussianMixture(2).fit(X)
    assert_type(mixture.num_iter_, int)
    GaussianMixture(3, fixed={"means": [0, 2], "covariances": True})
    assert_type(mixture.nll_, float)
    assert_type(mixture.score(X), float)
    assert_type(mixture.n_features_in_, int)
    search = GaussianMixtureIC(1, 3).fit(X)
    assert_type(search.best_estimator_, ScikitLearnsFace)
    assert_type(search.n_components_, int)
    assert_type(search.covariance_type_, CovarianceType)
    assert_type(search.n_features_in_, int)


def misspelt_names_are_found() -> None:
    sklearn_torch_gmm.GaussianMixtur  # type: ignore[attr-defined]  # noqa: B018
    GaussianMixture(2, covariance_type="ful")  # type: ignore[arg-type]
    GaussianMixture(2, n_init=3)  # type: ignore[call-arg]
    GaussianMixture(2).save(folder="model")  # type: ignore[call-arg]
    GaussianMixture.load(folder="model")  # type: ignore[call-arg]
