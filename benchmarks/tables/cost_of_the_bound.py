"""The cost of the bound that chooses the exact path, and of that path, for docs/numerics.md.

An iteration is a fast E-step over all rows and an M-step, in float64. The extents are found once,
in the first pass of a fit; the bound is computed after each M-step. The parts take turns, with all
threads, and the least time of each counts: whatever else the machine does can only add to it.
"""

from itertools import product

import pandas as pd
import torch

from benchmarks.cases import CASES, COVARIANCES
from benchmarks.markdown import markdown
from benchmarks.problems import make_problem
from benchmarks.timing import once
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import cancellation, largest_moments
from sklearn_torch_gmm.core.workspace import Workspace


def parts_of(case, covariance):
    """An iteration, both E-steps, a first pass, which finds the extents, and the bound."""
    problem = make_problem(case, covariance, "float64")
    structure = get_structure(covariance)
    start = problem.start
    rows, weights, means, covariances = map(
        torch.from_numpy, (problem.X, start.weights, start.means, start.covariances)
    )
    factors, _ = structure.precisions_cholesky(covariances[None], case.components)
    start = MixtureParameters(weights[None], means[None], covariances[None], factors)
    centre = rows.mean(0)
    extents = (rows - centre).abs().amax(0)
    natural = structure.natural_parameters(start.log_weights, start.means - centre, factors)
    largest = largest_moments(extents, structure)
    workspace = Workspace(torch.float64, rows.device)
    scatter = ((rows - centre).T @ (rows - centre))[None] if structure.has_pooled_scatter else None

    def fast(grows=None):
        step = FastEStep(
            start, centre, structure, workspace, natural=natural, extents=grows, scatter=scatter
        )
        # As in a fit of these rows.
        FastPass([step], resident_rows=len(rows)).add(rows)
        return step

    def iteration():
        step = fast()
        m_step(step.moments, step.centre, start.means, structure, 1e-6, rare_cases=False)

    return {
        "iteration": iteration,
        "fast": fast,
        "first": lambda: fast(torch.zeros_like(extents)),
        "bound": lambda: cancellation(natural, largest),
        "exact": lambda: ExactEStep(start, centre, structure, workspace).add(rows),
    }


def measure(name, covariance, repeats):
    parts = parts_of(CASES[name], covariance)
    rounds = [{part: once(call) for part, call in parts.items()} for _ in range(repeats)]
    least = pd.DataFrame(rounds).min()
    return {
        "data": CASES[name].title,
        "type": covariance,
        "estimate / iteration": f"{least['bound'] / least['iteration']:.2%}",
        "deviations / first pass": f"{max(0.0, 1 - least['fast'] / least['first']):.1%}",
        "exact / fast E-step": f"{least['exact'] / least['fast']:.1f}",
    }


def table(repeats=25):
    cases = product(("100k-32-16", "10k-8-4"), COVARIANCES)
    return markdown(pd.DataFrame(measure(*case, repeats) for case in cases), labels=2)
