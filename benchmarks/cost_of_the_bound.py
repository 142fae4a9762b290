"""What the bound costs that chooses the exact path, and what the exact path costs.

    python -m benchmarks.cost_of_the_bound                       # a table for docs/numerics.md
    python -m benchmarks.cost_of_the_bound --cases 10k-8-4 --repeats 100 --threads 1

An iteration is a fast E-step over all rows and an M-step, in float64. The extents are found once,
in the first pass of a fit; the bound is computed after each M-step. The parts take turns, and the
least time of each counts: whatever else the machine does can only add to it.
"""

import argparse

import torch

from benchmarks.cases import CASES, COVARIANCES
from benchmarks.clocks import seconds
from benchmarks.environment import machine
from benchmarks.problems import make_problem
from sklearn_torch_gmm.core.covariance import get_structure
from sklearn_torch_gmm.core.exact_step import ExactEStep
from sklearn_torch_gmm.core.fast_step import FastEStep, FastPass
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.rounding import cancellation, largest_moments
from sklearn_torch_gmm.core.workspace import Workspace


def seconds_of_parts(case, covariance, repeats):
    """Least seconds of an iteration, the extents, the bound, and both E-steps."""
    problem = make_problem(case, covariance, "float64")
    structure = get_structure(covariance)
    rows, weights, means, covariances = (
        torch.from_numpy(array)
        for array in (problem.X, problem.weights, problem.means, problem.covariances)
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

    parts = {
        "iteration": iteration,
        "fast": fast,
        "first": lambda: fast(torch.zeros_like(extents)),
        "bound": lambda: cancellation(natural, largest),
        "exact": lambda: ExactEStep(start, centre, structure, workspace).add(rows),
    }
    times = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            times[name].append(seconds(part, lambda: None))
    return {name: min(measured) for name, measured in times.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=["100k-32-16", "10k-8-4"], choices=CASES)
    parser.add_argument("--repeats", type=int, default=25)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    found = machine()
    print(f"{found['cores']} cores, {found['processor']}, {arguments.threads} threads,", end=" ")
    print(f"torch {torch.__version__}, Python {found['python']}\n")
    print("| data | type | estimate / iteration | deviations / first pass | exact / fast E-step |")
    print("|---|---|--:|--:|--:|")
    for case in map(CASES.get, arguments.cases):
        for covariance in COVARIANCES:
            s = seconds_of_parts(case, covariance, arguments.repeats)
            bound, extents = s["bound"] / s["iteration"], 1 - s["fast"] / s["first"]
            shares = f"{bound:.2%} | {max(0.0, extents):.1%} | {s['exact'] / s['fast']:.1f}"
            print(f"| {case.title} | {covariance} | {shares} |")


if __name__ == "__main__":
    main()
