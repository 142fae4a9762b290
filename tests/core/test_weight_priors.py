import mpmath
import numpy as np
import pytest
import torch
from scipy.special import digamma
from torch.distributions import Beta, Dirichlet

from sklearn_torch_gmm.core.weight_priors import (
    DirichletDistribution,
    DirichletProcess,
    log_beta,
    prior_of,
)

COUNTS = torch.tensor([[3.0, 0.0, 12.5], [1.0, 40.0, 2.0]], dtype=torch.float64)
STRENGTH = torch.tensor([[0.25], [2.0]], dtype=torch.float64)

# The digits that are left of log-gamma functions of numbers up to about fifty.
ROUNDING = {"rtol": 1e-12, "atol": 1e-12}


def test_a_dirichlet_posterior_adds_the_counts():
    concentrations = DirichletDistribution().posterior(COUNTS, STRENGTH)
    assert concentrations[0].tolist() == [[3.25, 0.25, 12.75]]
    assert concentrations[1].tolist() == [[3.0, 42.0, 4.0]]


def test_the_posterior_of_a_stick_counts_its_rows_and_those_after_it():
    concentrations = DirichletProcess().posterior(COUNTS, STRENGTH)
    assert concentrations[0].tolist() == [[4.0, 1.0, 13.5], [12.75, 12.75, 0.25]]
    assert concentrations[1].tolist() == [[2.0, 41.0, 3.0], [44.0, 4.0, 2.0]]


def test_expectations_of_a_dirichlet_distribution_are_those_of_torch():
    prior = DirichletDistribution()
    concentrations = prior.posterior(COUNTS, STRENGTH)
    posterior = Dirichlet(concentrations[:, 0])
    torch.testing.assert_close(prior.expected_weights(concentrations), posterior.mean, **ROUNDING)
    # The density of a Dirichlet distribution is its constant times Π π^(α − 1).
    point = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    powers = ((concentrations[:, 0] - 1) * point.log()).sum(-1)
    expected = posterior.log_prob(point) - powers
    torch.testing.assert_close(prior.log_norm(concentrations), expected, **ROUNDING)


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
    concentrations = prior.posterior(COUNTS[:1], STRENGTH[:1])
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
    torch.testing.assert_close(prior.log_norm(concentrations), expected, **ROUNDING)


@pytest.mark.parametrize("a", [1.0, 7.5, 1e3, 1e7])
@pytest.mark.parametrize("b", [1e-3, 2.0, 9.99, 10.0, 5e4, 1e10, 1e18, 1e300])
def test_the_beta_function_is_that_of_mpmath(a, b):
    with mpmath.workdps(400):
        expected = float(mpmath.log(mpmath.beta(a, b))) if b < 1e20 else None
    numbers = [torch.tensor(value, dtype=torch.float64) for value in (a, b)]
    found = log_beta(*numbers).item()
    assert found == log_beta(*reversed(numbers)).item()
    if expected is None:
        # Γ(a) b^-a, for b far beyond a.
        expected = float(mpmath.loggamma(a)) - a * np.log(b)
    # The gamma function of the smaller number is rounded as it is.
    size = abs(float(mpmath.loggamma(min(a, b))))
    assert found == pytest.approx(expected, rel=1e-14, abs=4e-16 * size + 4e-16)


def test_a_weight_that_is_next_to_nothing_has_a_finite_logarithm():
    # The weight itself, e^-1000, is zero in float64.
    concentrations = DirichletDistribution().posterior(
        torch.tensor([[5.0, 0.0]], dtype=torch.float64), torch.tensor([[1e-3]], dtype=torch.float64)
    )
    logs = prior_of(concentrations).expected_log_weights(concentrations)
    expected = digamma([5.001, 0.001]) - digamma(5.002)
    np.testing.assert_allclose(logs[0], expected, rtol=1e-12)


def test_concentrations_tell_their_prior():
    for prior in (DirichletDistribution(), DirichletProcess()):
        assert type(prior_of(prior.posterior(COUNTS, STRENGTH))) is type(prior)
