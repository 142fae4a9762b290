"""The posterior of a Bayesian mixture, against Bishop's formulas for one component at a time."""

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import digamma, logsumexp, multigammaln
from torch.distributions import Beta, Dirichlet, kl_divergence

from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.posterior import (
    PosteriorParameters,
    PriorParameters,
    evidence_bound,
    posterior_step,
    second_moments_of_prior,
)
from sklearn_torch_gmm.core.weight_priors import DirichletDistribution, DirichletProcess
from sklearn_torch_gmm.mixture import BayesianGaussianMixture
from tests.core.steps import make_e_step

TYPES = ["full", "tied", "diag", "spherical"]
PRIORS = [DirichletDistribution(), DirichletProcess()]

# Sums of a hundred rows in another order, and the inverse of matrices of condition ten.
ROUNDING = {"rtol": 1e-11, "atol": 1e-12}

ROWS, COMPONENTS, FEATURES = 100, 3, 2


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def rows(rng):
    return rng.normal(size=(ROWS, FEATURES)) * [1.0, 2.0] + [5.0, -3.0]


@pytest.fixture
def shares(rng):
    return rng.dirichlet([0.5] * COMPONENTS, ROWS)


def scale_of(covariance_type):
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    return {"full": matrix, "tied": matrix, "diag": np.array([2.0, 1.0]), "spherical": 1.5}[
        covariance_type
    ]


def prior_only(covariance_type, alpha=0.5, beta=0.8, nu=3.5):
    """Parameters that hold a prior, and the sizes, and nothing else."""
    structure = get_structure(covariance_type)
    scale = torch.as_tensor(scale_of(covariance_type), dtype=torch.float64)
    scale = scale.reshape(structure.covariance_shape(1, FEATURES))
    nothing = torch.empty(1, 0, dtype=torch.float64)
    return PosteriorParameters(
        weights=nothing,
        means=torch.zeros(1, COMPONENTS, FEATURES, dtype=torch.float64),
        covariances=torch.empty(1, *structure.covariance_shape(COMPONENTS, FEATURES)).double(),
        precisions_cholesky=nothing,
        concentrations=nothing,
        mean_precisions=nothing,
        degrees_of_freedom=nothing,
        prior=PriorParameters(
            weight_concentration=alpha,
            mean_precision=beta,
            degrees_of_freedom=nu,
            mean=torch.tensor([4.0, -1.0], dtype=torch.float64),
            covariance=scale,
            second=second_moments_of_prior(scale, structure, COMPONENTS, FEATURES),
            unit=1.0,
            # The same for all posteriors of the same rows.
            bound_constant=0.0,
        ),
    )


def moments_of(rows, shares, centre, structure):
    x = torch.from_numpy((rows - centre).T)
    features = torch.empty(1 + structure.num_moments(FEATURES), len(rows), dtype=torch.float64)
    features[1 : FEATURES + 1] = x
    structure.complete_moments(features, FEATURES)
    responsibilities = torch.from_numpy(shares.T)
    scatter = (x @ x.T).unsqueeze(0) if structure.has_pooled_scatter else None
    entropy = torch.from_numpy(-(shares * np.log(shares)).sum(keepdims=True)[0])
    return Moments((responsibilities @ features.T).unsqueeze(0), entropy, scatter, entropy=entropy)


def step(
    rows,
    shares,
    covariance_type,
    prior=PRIORS[0],
    regularization=0.0,
    centre=(4.0, -2.0),
    beta=0.8,
):
    structure = get_structure(covariance_type)
    moments = moments_of(rows, shares, np.array(centre), structure)
    result = posterior_step(
        moments,
        torch.tensor(centre, dtype=torch.float64),
        prior_only(covariance_type, beta=beta),
        prior,
        structure,
        regularization,
    )
    assert result.usable.all()
    assert result.empty is None
    return result.parameters, moments


def by_component(rows, shares, regularization=0.0, beta=0.8):
    """N_k, β_k, m_k and the matrices ν_k Σ_k − W₀ of Bishop's equations (10.51) to (10.62)."""
    prior_mean = np.array([4.0, -1.0])
    counts = shares.sum(0)
    means = shares.T @ rows / counts[:, None]
    within = np.array(
        [
            (shares[:, [k]] * (rows - means[k])).T @ (rows - means[k]) / counts[k]
            for k in range(COMPONENTS)
        ]
    )
    within += regularization * np.eye(FEATURES)
    precisions = beta + counts
    posterior_means = (beta * prior_mean + counts[:, None] * means) / precisions[:, None]
    away = means - prior_mean
    added = np.array(
        [
            counts[k] * within[k] + beta * counts[k] / precisions[k] * np.outer(away[k], away[k])
            for k in range(COMPONENTS)
        ]
    )
    return counts, precisions, posterior_means, added


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("regularization", [0.0, 0.3])
def test_the_step_is_that_of_bishop(rows, shares, covariance_type, regularization):
    found, _ = step(rows, shares, covariance_type, regularization=regularization)
    counts, precisions, means, added = by_component(rows, shares, regularization)
    degrees = 3.5 + counts
    scale = np.broadcast_to(scale_of("full"), added.shape)
    if covariance_type == "full":
        expected = (scale + added) / degrees[:, None, None]
    elif covariance_type == "tied":
        degrees = np.full(COMPONENTS, 3.5 + counts.mean())
        expected = (scale_of("full") + added.mean(0)) / degrees[0]
    else:
        expected = np.diagonal(added, axis1=1, axis2=2)
        if covariance_type == "spherical":
            expected = (1.5 + expected.mean(1)) / degrees
        else:
            expected = (scale_of("diag") + expected) / degrees[:, None]
    np.testing.assert_allclose(found.mean_precisions[0], precisions, **ROUNDING)
    np.testing.assert_allclose(found.means[0], means, **ROUNDING)
    np.testing.assert_allclose(found.degrees_of_freedom[0], degrees, **ROUNDING)
    np.testing.assert_allclose(found.covariances[0], expected, **ROUNDING)
    factors = found.precisions_cholesky
    back = get_structure(covariance_type).covariances(factors)
    torch.testing.assert_close(back, found.covariances, **ROUNDING)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_centre_does_not_matter(rows, shares, covariance_type):
    near, _ = step(rows, shares, covariance_type, centre=(5.0, -3.0))
    far, _ = step(rows, shares, covariance_type, centre=(0.0, 0.0))
    for one, other in zip(near.tensors(), far.tensors(), strict=True):
        torch.testing.assert_close(one, other, **ROUNDING)


@pytest.mark.parametrize("place", [1e6, 1e9, 1e12])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_weak_prior_far_away_costs_no_digits(rng, dtype, place):
    X = rng.standard_normal((100, 2)).astype(dtype)
    precision = "32-true" if dtype == np.float32 else "64-true"
    options = {"mean_prior": [place, -place], "mean_precision_prior": 1e-18 / place}
    mixture = BayesianGaussianMixture(**options, trainer_params={"precision": precision}).fit(X)
    # The prior moves the mean by 1e-20.
    tolerance = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(mixture.means_[0], X.mean(0), rtol=0, atol=tolerance)


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("beta", [1e5, 1e12, 1e18])
def test_a_strong_prior_far_away_costs_no_digits(rows, shares, covariance_type, beta):
    found, _ = step(rows, shares, covariance_type, beta=beta)
    counts, _, means, added = by_component(rows, shares, beta=beta)
    np.testing.assert_allclose(found.means[0], means, **ROUNDING)
    degrees = 3.5 + (np.full(COMPONENTS, counts.mean()) if covariance_type == "tied" else counts)
    variances = (
        np.diagonal(added, axis1=1, axis2=2)
        + {
            "full": np.diagonal(scale_of("full")),
            "tied": np.diagonal(scale_of("tied")),
            "diag": scale_of("diag"),
            "spherical": scale_of("spherical"),
        }[covariance_type]
    )
    expected = {
        "full": variances / degrees[:, None],
        "tied": np.broadcast_to(variances.mean(0), variances.shape) / degrees[:, None],
        "diag": variances / degrees[:, None],
        "spherical": np.repeat(variances.mean(1, keepdims=True), FEATURES, 1) / degrees[:, None],
    }[covariance_type]
    structure = get_structure(covariance_type)
    actual = structure.variances(found.covariances, COMPONENTS, FEATURES)[0]
    np.testing.assert_allclose(actual, expected, **ROUNDING)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_component_without_rows_is_the_prior(rows, shares, covariance_type):
    shares = shares.copy()
    shares[:, 0] += shares[:, 2]
    shares[:, 2] = 1e-300
    found, _ = step(rows, shares, covariance_type)
    np.testing.assert_allclose(found.means[0, 2], [4.0, -1.0], **ROUNDING)
    np.testing.assert_allclose(found.mean_precisions[0, 2], 0.8, **ROUNDING)
    if covariance_type != "tied":
        expected = scale_of(covariance_type) / 3.5
        np.testing.assert_allclose(found.covariances[0, 2], expected, **ROUNDING)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_the_moments_stay_as_they_are(rows, shares, covariance_type):
    """The bound is computed from them, and the step may be done again."""
    structure, centre = get_structure(covariance_type), torch.zeros(2, dtype=torch.float64)
    moments = moments_of(rows, shares, np.zeros(2), structure)
    before = deepcopy(moments)
    for unit in (1.0, 3.0):
        prior = prior_only(covariance_type)
        prior = replace(prior, prior=replace(prior.prior, unit=unit))
        posterior_step(moments, centre, prior, PRIORS[1], structure, 0.1)
        torch.testing.assert_close(moments.sums, before.sums, rtol=0, atol=0)
        torch.testing.assert_close(moments.scatter, before.scatter, rtol=0, atol=0)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_weight_of_three_is_three_rows(rows, shares, covariance_type):
    structure, centre = get_structure(covariance_type), torch.zeros(2, dtype=torch.float64)
    moments = moments_of(rows, shares, np.zeros(2), structure)
    before = prior_only(covariance_type)
    weighted = replace(before, prior=replace(before.prior, unit=3.0))
    one = posterior_step(moments, centre, weighted, PRIORS[1], structure, 0.1).parameters
    repeated, thrice = np.tile(rows, (3, 1)), np.tile(shares, (3, 1))
    moments_of_three = moments_of(repeated, thrice, np.zeros(2), structure)
    other = posterior_step(moments_of_three, centre, before, PRIORS[1], structure, 0.1).parameters
    for name in ("weights", "means", "covariances", "concentrations", "degrees_of_freedom"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name), **ROUNDING)
    torch.testing.assert_close(
        evidence_bound(moments.entropy, one, structure),
        evidence_bound(moments_of_three.entropy, other, structure),
        **ROUNDING,
    )


def expected_joint(found, x):
    """E log p(x, k) of one row, [K], by Bishop's equations (10.46), (10.64) to (10.66)."""
    logs = []
    for k in range(COMPONENTS):
        nu, beta = found.degrees_of_freedom[0, k].item(), found.mean_precisions[0, k].item()
        scale = np.linalg.inv(found.covariances[0, k].numpy()) / nu
        steps = np.arange(1, FEATURES + 1)
        log_precision = (
            digamma(0.5 * (nu + 1 - steps)).sum()
            + FEATURES * np.log(2)
            + np.linalg.slogdet(scale)[1]
        )
        away = x - found.means[0, k].numpy()
        quadratic = FEATURES / beta + nu * away @ scale @ away
        logs.append(0.5 * (log_precision - FEATURES * np.log(2 * np.pi) - quadratic))
    return np.array(logs) + expected_log_weights(found.concentrations[0].numpy())


def expected_log_weights(concentrations):
    """E log π of a Dirichlet distribution, or of sticks of beta distributions."""
    if len(concentrations) == 1:
        return digamma(concentrations[0]) - digamma(concentrations[0].sum())
    taken, left = concentrations
    log_taken, log_left = (digamma(part) - digamma(taken + left) for part in (taken, left))
    return log_taken + np.cumsum(log_left) - log_left


@pytest.mark.parametrize("kind", ["fast", "exact"])
def test_an_e_step_weighs_by_the_expected_log_joint(rows, shares, kind):
    found, _ = step(rows, shares, "full")
    centre = torch.tensor([5.0, -3.0], dtype=torch.float64)
    e_step = make_e_step(kind, found, centre, get_structure("full"), with_entropy=True)
    weights = torch.linspace(0.5, 1.5, ROWS, dtype=torch.float64)
    e_step.add(torch.from_numpy(rows), weights)
    joint = np.array([expected_joint(found, x) for x in rows])
    log_shares = joint - logsumexp(joint, axis=1, keepdims=True)
    weighted = weights.numpy()[:, None] * np.exp(log_shares)
    np.testing.assert_allclose(e_step.moments.counts[0], weighted.sum(0), **ROUNDING)
    entropy = -(weighted * log_shares).sum()
    np.testing.assert_allclose(e_step.moments.entropy[0], entropy, **ROUNDING)


def evidence(rows, shares, found, prior):
    """The whole bound for 'full' covariances: the expected joint log-density plus entropies."""
    total = -(shares * np.log(shares)).sum()
    total += (shares * np.array([expected_joint(found, x) for x in rows])).sum()
    strength = torch.tensor(0.5, dtype=torch.float64)
    if isinstance(prior, DirichletProcess):
        sticks = Beta(*found.concentrations[0])
        total -= kl_divergence(sticks, Beta(torch.ones_like(strength), strength)).sum().item()
    else:
        start = Dirichlet(strength.expand(COMPONENTS))
        total -= kl_divergence(Dirichlet(found.concentrations[0, 0]), start).item()
    return total - sum(gauss_wishart_divergence(found, k) for k in range(COMPONENTS))


def gauss_wishart_divergence(found, k, beta=0.8, nu=3.5):
    """From the prior to the posterior of one component: E log q(μ, Λ) − E log p(μ, Λ)."""
    degrees, precision = found.degrees_of_freedom[0, k].item(), found.mean_precisions[0, k].item()
    scale = np.linalg.inv(found.covariances[0, k].numpy()) / degrees
    away = found.means[0, k].numpy() - np.array([4.0, -1.0])
    of_mean = 0.5 * (
        FEATURES * (beta / precision - np.log(beta / precision) - 1)
        + beta * degrees * away @ scale @ away
    )
    prior_scale = np.linalg.inv(scale_of("full"))
    log_ratio = np.linalg.slogdet(prior_scale)[1] - np.linalg.slogdet(scale)[1]
    trace = np.trace(scale_of("full") @ scale)
    half_digammas = digamma(0.5 * (degrees - np.arange(FEATURES))).sum()
    of_precision = (
        0.5 * nu * log_ratio
        + multigammaln(nu / 2, FEATURES)
        - multigammaln(degrees / 2, FEATURES)
        + 0.5 * (degrees - nu) * half_digammas
        + 0.5 * degrees * (trace - FEATURES)
    )
    return of_mean + of_precision


@pytest.mark.parametrize("prior", PRIORS, ids=lambda prior: type(prior).__name__)
def test_the_bound_is_that_on_the_evidence_up_to_a_constant(rng, rows, shares, prior):
    structure = get_structure("full")
    differences = []
    for responsibilities in (shares, rng.dirichlet([2.0] * COMPONENTS, ROWS)):
        found, moments = step(rows, responsibilities, "full", prior)
        bound = evidence_bound(moments.entropy, found, structure).item()
        differences.append(bound - evidence(rows, responsibilities, found, prior))
    assert differences[0] == pytest.approx(differences[1], rel=1e-10)


def test_the_entropy_of_a_row_beyond_all_components_is_finite():
    means = torch.tensor([[[0.0], [1e200]]], dtype=torch.float64)
    parameters = replace(
        step(np.ones((ROWS, 2)), np.full((ROWS, 3), 1 / 3), "spherical")[0],
        means=means,
        covariances=torch.ones(1, 2, dtype=torch.float64),
        precisions_cholesky=torch.ones(1, 2, dtype=torch.float64),
        concentrations=torch.ones(1, 1, 2, dtype=torch.float64),
        mean_precisions=torch.ones(1, 2, dtype=torch.float64),
        degrees_of_freedom=torch.ones(1, 2, dtype=torch.float64),
    )
    e_step = make_e_step(
        "exact", parameters, means[0, 0], get_structure("spherical"), with_entropy=True
    )
    e_step.add(torch.zeros(1, 1, dtype=torch.float64))
    assert e_step.moments.entropy.tolist() == [0.0]
