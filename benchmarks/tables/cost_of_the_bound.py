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
from sklearn_torch_gmm.core.rounding import cancellation, rounding_of_moments
from sklearn_torch_gmm.core.workspace import Workspace


def parts_of(case, covariance):
    """An iteration, both E-steps, a first pass, which finds the extents, and the bound."""
    problem, structure = make_problem(case, covariance, "float64"), get_structure(covariance)
    start = problem.start
    arrays = problem.X, start.weights, start.means, start.covariances
    rows, weights, means, covariances = map(torch.from_numpy, arrays)
    factors, _ = structure.precisions_cholesky(covariances[None], case.components)
    start = MixtureParameters(weights[None], means[None], covariances[None], factors)
    centre = rows.mean(0)
    extents = (rows - centre).abs().amax(0)
    natural = structure.natural_parameters(start.log_weights, start.means - centre, factors)
    rounding = rounding_of_moments(extents, structure)
    given = start, centre, structure, Workspace(torch.float64, rows.device)
    scatter = ((rows - centre).T @ (rows - centre))[None] if structure.has_pooled_scatter else None

    def fast(grows=None):
        step = FastEStep(*given, natural=natural, extents=grows, scatter=scatter)
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
        "bound": lambda: cancellation(natural, rounding),
        "exact": lambda: ExactEStep(*given).add(rows),
    }


def table(repeats=25):
    columns = ["data", "type", "bound / iteration", "extents / first pass", "exact / fast E-step"]
    rows = []
    for case, covariance in product((CASES["100k-32-16"], CASES["10k-8-4"]), COVARIANCES):
        parts = parts_of(case, covariance)
        rounds = [{part: once(call) for part, call in parts.items()} for _ in range(repeats)]
        least = pd.DataFrame(rounds).min()
        bound, extents = least["bound"] / least["iteration"], 1 - least["fast"] / least["first"]
        shares = f"{bound:.2%}", f"{max(0.0, extents):.1%}"
        rows.append([case.title, covariance, *shares, f"{least['exact'] / least['fast']:.1f}"])
    return markdown(pd.DataFrame(rows, columns=columns), labels=2)
