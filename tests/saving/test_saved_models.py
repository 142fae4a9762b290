"""Models that earlier versions saved are loaded, and predict what they did."""

import json

import numpy as np
import pytest
import torch

import sklearn_torch_gmm
from sklearn_torch_gmm import GaussianMixture, GaussianMixtureModel, mixture
from tests.make_saved_models import MODELS, TYPES, make_unfitted

MIXTURE_CLASSES = {"documented": GaussianMixture, "drop-in": mixture.GaussianMixture}
VERSIONS = sorted(path.name for path in MODELS.iterdir() if path.is_dir())

for_every_version = pytest.mark.parametrize("version", VERSIONS)
for_every_class = pytest.mark.parametrize("kind", MIXTURE_CLASSES)


def test_this_version_is_there():
    assert sklearn_torch_gmm.__version__ in VERSIONS, "run python -m tests.make_saved_models"


@for_every_version
@for_every_class
@pytest.mark.parametrize("covariance_type", TYPES)
def test_fitted(version, kind, covariance_type):
    name = f"{kind}-{covariance_type}"
    all_expected = json.loads((MODELS / version / "expected.json").read_text())
    rows, expected = np.array(all_expected["rows"]), all_expected[name]
    estimator = MIXTURE_CLASSES[kind].load(MODELS / version / name)
    np.testing.assert_array_equal(estimator.predict(rows), expected["labels"])
    np.testing.assert_allclose(
        estimator.score_samples(rows), expected["log_densities"], rtol=1e-10, atol=1e-10
    )
    np.testing.assert_array_equal(estimator.means_, expected["means"])
    assert estimator.n_iter_ == expected["n_iter"]
    assert estimator.n_features_in_ == 2
    assert estimator.labels_.shape == (60,)
    assert estimator.labels_.dtype == np.int64
    assert estimator.covariance_type == covariance_type

    module = GaussianMixtureModel.load(MODELS / version / name)
    _, log_prob = module(torch.tensor(rows))
    np.testing.assert_allclose(log_prob, expected["log_densities"], rtol=1e-10, atol=1e-10)


@for_every_version
@for_every_class
def test_unfitted(version, kind):
    estimator = MIXTURE_CLASSES[kind].load(MODELS / version / f"{kind}-unfitted")
    wanted = make_unfitted()[kind].get_params()
    found = estimator.get_params()
    assert found.keys() == wanted.keys()
    if kind == "documented":
        draws = [each.pop("random_state").standard_normal(9).tolist() for each in (found, wanted)]
        assert draws[0] == draws[1]
    for name, value in wanted.items():
        np.testing.assert_equal(found[name], value)
        assert type(found[name]) is type(value)
        assert getattr(found[name], "dtype", None) == getattr(value, "dtype", None)
