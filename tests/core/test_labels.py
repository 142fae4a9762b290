"""Rows whose class is known, in both E-steps."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.special import logsumexp

from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.m_step import m_step
from tests.core.oracle import draw_rows, joint_log_densities, weighted_sums, with_structure
from tests.core.steps import (
    E_STEPS,
    as_parameters,
    assert_same_mixtures,
    make_e_step,
    mixture_of,
    tensor,
)

CLASSES = np.array([0, 1, 1, 2])
SMALLEST_CHUNK = 1

each_kind = pytest.mark.parametrize("kind", E_STEPS)
each_type = pytest.mark.parametrize("name", sorted(STRUCTURES))


def labels_of(rng, num_rows):
    """Classes, half of them unknown, and a row of a class that is far from its components."""
    labels = rng.integers(3, size=num_rows)
    return np.where(rng.uniform(size=num_rows) < 0.5, -1, labels)


def shares_by_hand(mixture, rows, labels):
    """Responsibilities [K, N], and log p(x, y) or log p(x) of each row [N]."""
    joint = joint_log_densities(mixture, rows)
    for n, label in enumerate(labels):
        for k, own in enumerate(CLASSES):
            if label >= 0 and own != label:
                joint[k, n] = -np.inf
    log_densities = logsumexp(joint, axis=0)
    return np.exp(joint - log_densities), log_densities


def pass_over(kind, parameters, rows, structure, weights, labels, **options):
    """An E-step over parts of the rows."""
    splits, centre = options.pop("splits", []), tensor(rows.mean(0))
    step = make_e_step(kind, parameters, centre, structure, classes=tensor(CLASSES), **options)
    for start, stop in pairwise([0, *splits, len(rows)]):
        part = slice(start, stop)
        step.add(tensor(rows[part]), tensor(weights[part]), tensor(labels[part]))
    return step


@each_type
@each_kind
@pytest.mark.parametrize(
    "options",
    [{}, {"splits": [1, 40]}, {"chunk_bytes": SMALLEST_CHUNK}, {"num_lanes": 3}],
    ids=str,
)
def test_rows_with_a_label_belong_to_their_class_by_loops(rng, name, kind, options):
    """Two mixtures at once; enough rows for several lanes."""
    structure = get_structure(name)
    mixtures = [mixture_of(rng, name, components=4) for _ in range(2)]
    rows = draw_rows(rng, mixtures[0], 300)
    labels, weights = labels_of(rng, 300), rng.uniform(size=300)
    parameters = as_parameters(name, *mixtures)
    step = pass_over(kind, parameters, rows, structure, weights, labels, **options)
    result = m_step(step.moments, step.centre, parameters.means, structure, 0.0)
    expected, likelihoods = [], []
    for mixture in mixtures:
        shares, log_densities = shares_by_hand(mixture, rows, labels)
        sums = weighted_sums(rows, shares, weights)
        found = mixture._replace(weights=sums.weights, means=sums.means, matrices=sums.within)
        expected.append(with_structure(name, found, sums.counts))
        likelihoods.append(weights @ log_densities)
    assert_same_mixtures(result.parameters, as_parameters(name, *expected), rtol=1e-10, atol=1e-10)
    actual = step.log_likelihood(step.moments)
    np.testing.assert_allclose(actual.numpy(), likelihoods, rtol=1e-11)


@each_type
@each_kind
def test_rows_without_labels_are_treated_as_if_there_were_none(rng, name, kind):
    structure, mixture = get_structure(name), mixture_of(rng, name, components=4)
    rows = draw_rows(rng, mixture, 100)
    parameters = as_parameters(name, mixture)
    unknown = pass_over(kind, parameters, rows, structure, np.ones(100), np.full(100, -1))
    plain = make_e_step(kind, parameters, tensor(rows.mean(0)), structure)
    plain.add(tensor(rows))
    assert torch.equal(unknown.moments.sums, plain.moments.sums)
    assert torch.equal(unknown.moments.log_likelihood, plain.moments.log_likelihood)


@each_kind
def test_a_row_far_from_all_components_of_its_class(rng, kind):
    """Its density there is e^-5000 times that elsewhere."""
    mixture = mixture_of(rng, "full", components=4)
    mixture = mixture._replace(means=mixture.means + np.array([[0.0], [0.0], [0.0], [60.0]]))
    rows, labels = mixture.means[:1], np.array([2])
    parameters = as_parameters("full", mixture)
    step = pass_over(kind, parameters, rows, get_structure("full"), np.ones(1), labels)
    assert step.moments.counts.tolist() == [[0.0, 0.0, 0.0, 1.0]]
    expected = joint_log_densities(mixture, rows)[3, 0]
    assert expected < -1000
    assert step.moments.log_likelihood.item() == pytest.approx(expected, rel=1e-12)


@each_kind
def test_labels_that_say_which_component_are_certain(rng, kind):
    mixture = mixture_of(rng, "diag", components=4)
    rows = draw_rows(rng, mixture, 20)
    for labels, certain in ((np.full(20, 0), True), (np.full(20, 1), False)):
        step = pass_over(
            kind,
            as_parameters("diag", mixture),
            rows,
            get_structure("diag"),
            np.ones(20),
            labels,
            with_certainty=True,
        )
        assert (step.moments.certainty.item() == 0.0) == certain
