"""Fixed parts of particular structures; what all of them promise is in the contract tests."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from tests.core.covariance.contract.fixed_parts import each_choice, each_kind
from tests.core.oracle import Mixture, draw_rows, joint_log_densities
from tests.core.steps import iterate_beside, mixture_of

each_type = pytest.mark.parametrize("name", sorted(STRUCTURES))


def test_covariances_about_fixed_means_are_where_a_search_ends(rng):
    """The largest value that scipy finds, over all lower triangles, from the identity."""
    before = mixture_of(rng, "full", 1)._replace(means=np.array([[0.7, -1.3]]))
    rows = rng.standard_normal((50, 2)) @ [[1.0, 0.4], [0.0, 0.5]]

    def loss(lower):
        matrix = np.array([[lower[0], 0.0], [lower[1], lower[2]]])
        mixture = Mixture(np.ones(1), before.means, (matrix @ matrix.T)[None])
        return -joint_log_densities(mixture, rows).mean()

    lower = minimize(loss, [1.0, 0.0, 1.0], options={"gtol": 1e-8}).x
    matrix = np.array([[lower[0], 0.0], [lower[1], lower[2]]])
    result, _ = iterate_beside(("means",), "exact", "full", [before], rows)
    np.testing.assert_allclose(result.parameters.covariances[0, 0], matrix @ matrix.T, atol=1e-5)


@each_type
@each_choice
@each_kind
def test_a_component_without_rows(rng, name, fixed, kind):
    """It is filled with the variance of the data, unless the covariances are fixed."""
    mixture = mixture_of(rng, name)
    mixture = mixture._replace(means=mixture.means + np.array([[0.0], [1e4], [0.0]]))
    kept = mixture._replace(
        weights=mixture.weights[::2], means=mixture.means[::2], matrices=mixture.matrices[::2]
    )
    rows = draw_rows(rng, kept._replace(weights=kept.weights / kept.weights.sum()), 60)
    result, before = iterate_beside(fixed, kind, name, [mixture], rows, None, 0.0)
    assert result.empty.tolist() == [[False, True, False]]
    assert result.usable.all()
    assert result.parameters.means[0, 1].tolist() == mixture.means[1].tolist()
    for part in fixed:
        assert torch.equal(getattr(result.parameters, part), getattr(before, part))
    if "weights" not in fixed:
        assert result.parameters.weights[0, 1] == 0.0
    if "covariances" not in fixed and name != "tied":
        variances = get_structure(name).variances(result.parameters.covariances, 3, 2)[0, 1]
        spread = rows.var(0).mean() if name == "spherical" else rows.var(0)
        np.testing.assert_allclose(variances, np.broadcast_to(spread, 2), rtol=1e-9)
