import mpmath
import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch.distributions import Beta, Dirichlet

from sklearn_torch_gmm.core.weight_priors import (
    DirichletDistribution,
    DirichletProcess,
    prior_of,
)

COUNTS = torch.tensor([[3.0, 0.0, 12.5], [1.0, 40.0, 2.0]], dtype=torch.float64)
STRENGTH = 0.25

# The digits that are left of log-gamma functions of numbers up to about fifty.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def log_norm(prior, concentrations):
    """The logarithm of the normalization constant of the posterior from :data:`COUNTS`."""
    constants = [
        prior.bound_constant(STRENGTH, COUNTS.shape[1], num_rows)
        for num_rows in COUNTS.sum(1).tolist()
    ]
    terms = prior.bound_terms(concentrations)
    return -(terms.sum(-1) + torch.tensor(constants, dtype=torch.float64))


def test_a_dirichlet_posterior_adds_the_counts():
    concentrations = DirichletDistribution().posterior(COUNTS, STRENGTH)
    assert concentrations[0].tolist() == [[3.25, 0.25, 12.75]]
    assert concentrations[1].tolist() == [[1.25, 40.25, 2.25]]


def test_the_posterior_of_a_stick_counts_its_rows_and_those_after_it():
    concentrations = DirichletProcess().posterior(COUNTS, STRENGTH)
    assert concentrations[0].tolist() == [[4.0, 1.0, 13.5], [12.75, 12.75, 0.25]]
    assert concentrations[1].tolist() == [[2.0, 41.0, 3.0], [42.25, 2.25, 0.25]]


def test_expectations_of_a_dirichlet_distribution_are_those_of_torch():
    prior = DirichletDistribution()
    concentrations = prior.posterior(COUNTS, STRENGTH)
    posterior = Dirichlet(concentrations[:, 0])
    torch.testing.assert_close(prior.expected_weights(concentrations), posterior.mean, **ROUNDING)
    # The density of a Dirichlet distribution is its constant times Π π^(α − 1).
    point = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    powers = ((concentrations[:, 0] - 1) * point.log()).sum(-1)
    expected = posterior.log_prob(point) - powers
    torch.testing.assert_close(log_norm(prior, concentrations), expected, **ROUNDING)


@pytest.mark.parametrize("prior", [DirichletDistribution(), DirichletProcess()])
def test_expected_logarithms_are_means_over_draws(prior):
    torch.manual_seed(0)
    counts, strength = COUNTS + 2.0, STRENGTH + 1.0
    concentrations = prior.posterior(counts, strength)
    draws = 200_000
    if isinstance(prior, DirichletDistribution):
        weights = Dirichlet(concentrations[:, 0]).sample((draws,))
    else:
        sticks = Beta(*concentrations.unbind(1)).sample((draws,))
        left = torch.cat([torch.ones_like(sticks[..., :1]), (1 - sticks).cumprod(-1)[..., :-1]], -1)
        weights = sticks * left
    logs = weights.log()
    # Five standard errors of the mean.
    error = 5 * logs.std(0) / draws**0.5
    assert ((prior.expected_log_weights(concentrations) - logs.mean(0)).abs() < error).all()


def test_weights_of_sticks_are_those_of_their_mean_lengths():
    prior = DirichletProcess()
    concentrations = prior.posterior(COUNTS[:1], STRENGTH)
    first, second, third = 4 / 16.75, 1 / 13.75, 13.5 / 13.75
    lengths = np.array([first, (1 - first) * second, (1 - first) * (1 - second) * third])
    expected = torch.from_numpy(lengths / lengths.sum())
    torch.testing.assert_close(prior.expected_weights(concentrations)[0], expected, **ROUNDING)


def test_the_constant_of_sticks_is_that_of_their_beta_distributions():
    prior = DirichletProcess()
    concentrations = prior.posterior(COUNTS, STRENGTH)
    taken, left = concentrations.unbind(1)
    half = torch.tensor(0.5, dtype=torch.float64)
    powers = (taken - 1) * half.log() + (left - 1) * half.log()
    expected = (Beta(taken, left).log_prob(half) - powers).sum(-1)
    torch.testing.assert_close(log_norm(prior, concentrations), expected, **ROUNDING)


@pytest.mark.parametrize("num_rows", [1.0, 7.5, 1e3, 1e7])
@pytest.mark.parametrize("strength", [1e-300, 1e-3, 2.0, 5e4, 1e10, 1e18, 1e300])
def test_the_constant_of_sticks_is_that_of_mpmath_under_any_prior(num_rows, strength):
    # Three hundred digits of the sum below, and as many that cancel.
    with mpmath.workdps(700):
        alpha = mpmath.mpf(strength)
        if strength < 1e20:
            expected = mpmath.loggamma(1 + alpha) - mpmath.loggamma(1 + alpha + num_rows)
        else:
            # Γ(x + N) / Γ(x) = x^N (1 + O(N² / x)).
            expected = -num_rows * mpmath.log(alpha)
    found = DirichletProcess().bound_constant(strength, 5, num_rows)
    # Below 10, log Γ(1 + α + N) is rounded as it is; beyond it, no two terms cancel.
    size = float(mpmath.loggamma(1 + alpha + num_rows)) if strength < 9 else 0.0
    assert found == pytest.approx(float(expected), rel=2e-15, abs=4e-16 * (size + 1.0))


def test_few_rows_in_the_last_sticks_have_all_digits():
    # The sums of the last sticks are next to nothing beside the first one.
    counts = torch.tensor([[1e7, 1e-3, 0.0]], dtype=torch.float64)
    prior, strength = DirichletProcess(), 1e-3
    concentrations = prior.posterior(counts, strength)
    constant = prior.bound_constant(strength, 3, 1e7 + 1e-3)
    found = prior.bound_terms(concentrations).sum().item() + constant
    with mpmath.workdps(50):
        sticks = concentrations[0].T.tolist()
        expected = float(sum(mpmath.log(mpmath.beta(*stick)) for stick in sticks))
    # The terms are of the size of log Γ(1e7), 1.5e8, of which 4e-8 is rounded.
    assert found == pytest.approx(expected, abs=6e-8)


def test_a_weight_that_is_next_to_nothing_has_a_finite_logarithm():
    # The weight itself, e^-1000, is zero in float64.
    concentrations = DirichletDistribution().posterior(
        torch.tensor([[5.0, 0.0]], dtype=torch.float64), 1e-3
    )
    logs = prior_of(concentrations).expected_log_weights(concentrations)
    expected = digamma([5.001, 0.001]) - digamma(5.002)
    np.testing.assert_allclose(logs[0], expected, rtol=1e-12)


def test_concentrations_tell_their_prior():
    for prior in (DirichletDistribution(), DirichletProcess()):
        assert type(prior_of(prior.posterior(COUNTS, STRENGTH))) is type(prior)
