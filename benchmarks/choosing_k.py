"""Choosing among many mixtures: one sweep, against loops over single fits.

    python -m benchmarks.choosing_k                              # [50k, 10], K = 2..20, ten starts
    python -m benchmarks.choosing_k --scikit-learn-starts 1      # the same, the slow loop in part
    python -m benchmarks.choosing_k --rows 1000000 --starts 1 --contenders sweep

The contenders are `GaussianMixtureIC`, a loop over our drop-in and a loop over scikit-learn's class
with the same seed, and so with the same starts and iterations: what each loop keeps is compared
with what the sweep keeps. A loop fits all starts at once (``n_init``) and asks for the BIC. Each
contender has a process of its own, which has fitted something small before. With
`--scikit-learn-starts S` scikit-learn's loop fits the first S starts, and its time is multiplied by
``starts / S``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.environment import BLAS_SWITCHES, commit, loaded_libraries, machine

CONTENDERS = {
    "sweep": "GaussianMixtureIC",
    "loop": "loop over sklearn_torch_gmm.mixture.GaussianMixture",
    "scikit-learn": "loop over sklearn.mixture.GaussianMixture",
}


def data(rows: int, features: int, spread: float) -> Any:
    """Eight groups: the smaller the spread of their centres, the more iterations."""
    import numpy as np

    rng = np.random.default_rng(0)
    centres = spread * rng.normal(size=(8, features))
    return centres[rng.integers(8, size=rows)] + rng.normal(size=(rows, features))


# -- in the worker --------------------------------------------------------------------------------


def sweep(X: Any, options: argparse.Namespace, starts: int) -> list[list[Any]]:
    from sklearn_torch_gmm import GaussianMixtureIC

    search = GaussianMixtureIC(
        options.smallest,
        options.largest,
        covariance_type=options.types,
        n_init=starts,
        random_state=0,
    ).fit(X)
    results = search.results_
    names = ("covariance_type", "n_components", "n_iter", "bic")
    return [[results[name].tolist()[i] for name in names] for i in results["is_kept"].nonzero()[0]]


def loop(mixture: Any, X: Any, options: argparse.Namespace, starts: int) -> list[list[Any]]:
    found = []
    for name in options.types:
        for size in range(options.smallest, options.largest + 1):
            one = mixture(size, covariance_type=name, n_init=starts, random_state=0).fit(X)
            found.append([name, size, one.n_iter_, float(one.bic(X))])
    return found


def run(contender: str, X: Any, options: argparse.Namespace, starts: int) -> list[list[Any]]:
    if contender == "sweep":
        return sweep(X, options, starts)
    if contender == "loop":
        from sklearn_torch_gmm.mixture import GaussianMixture
    else:
        from sklearn.mixture import GaussianMixture
    return loop(GaussianMixture, X, options, starts)


def anonymous_memory() -> float:
    """What this process holds beside mapped files, in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = dict(line.split(":", 1) for line in lines)
    return int(sizes["RssAnon"].split()[0]) / 1024


@contextmanager
def watched_memory() -> Iterator[list[float]]:
    """A list whose only number grows to the largest extra memory within the block."""
    before, largest, is_over = anonymous_memory(), [0.0], threading.Event()

    def watch() -> None:
        while not is_over.wait(0.02):
            largest[0] = max(largest[0], anonymous_memory() - before)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield largest
    finally:
        is_over.set()
        thread.join()


def work(options: argparse.Namespace) -> None:
    """Run one contender, and print what it took and found."""
    warnings.simplefilter("ignore")
    starts = options.starts
    if options.worker == "scikit-learn":
        starts = options.scikit_learn_starts or starts
    X = data(options.rows, options.features, options.spread)
    run(options.worker, X[:1000], options, 1)
    with watched_memory() as memory:
        began, cpu = time.perf_counter(), time.process_time()
        found = run(options.worker, X, options, starts)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    result = {
        "seconds": seconds * options.starts / starts,
        "cpu_seconds": cpu * options.starts / starts,
        "starts": starts,
        "memory": memory[0],
        "found": found,
        "libraries": loaded_libraries(),
    }
    print(json.dumps(result))


# -- in the parent --------------------------------------------------------------------------------


def result_of(contender: str) -> dict[str, Any]:
    environment = {k: v for k, v in os.environ.items() if k not in BLAS_SWITCHES}
    command = [sys.executable, "-m", "benchmarks.choosing_k", *sys.argv[1:], "--worker", contender]
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


def agreement(one: list[list[Any]], other: list[list[Any]]) -> str:
    """How many mixtures of two contenders took the same iterations to the same BIC."""
    pairs = [(dict_of(one)[key], value) for key, value in dict_of(other).items()]
    same = sum(a[0] == b[0] and abs(a[1] - b[1]) <= 1e-7 * abs(b[1]) for a, b in pairs)
    return f"{same} of {len(pairs)} mixtures the same"


def dict_of(found: list[list[Any]]) -> dict[tuple[str, int], tuple[int, float]]:
    return {(name, size): (iterations, bic) for name, size, iterations, bic in found}


def report(results: dict[str, list[dict[str, Any]]], options: argparse.Namespace) -> None:
    best = {name: min(runs, key=lambda r: r["seconds"]) for name, runs in results.items()}
    any_of = next(iter(best.values()))
    print(json.dumps({**machine(), "commit": commit(), "load": os.getloadavg()}))
    print(json.dumps(any_of["libraries"]))
    shape = f"[{options.rows}, {options.features}], K = {options.smallest}..{options.largest}"
    iterations = sum(row[2] for row in any_of["found"])
    print(
        f"{shape}, {options.starts} starts, {' and '.join(options.types)}, spread "
        f"{options.spread}; {iterations} iterations of the mixtures that were kept"
    )
    for name, one in best.items():
        line = (
            f"{CONTENDERS[name]}: {one['seconds']:.2f} s ({one['cpu_seconds']:.2f} s of the cores)"
        )
        line += f", {one['memory']:.0f} MiB more"
        if one["starts"] != options.starts:
            line += f"; {one['starts']} starts measured, times {options.starts / one['starts']:g}"
        if name != "sweep" and "sweep" in best:
            line += f"; {one['seconds'] / best['sweep']['seconds']:.2f} times the sweep"
            if one["starts"] == options.starts:
                line += f"; {agreement(best['sweep']['found'], one['found'])}"
        print(line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--features", type=int, default=10)
    parser.add_argument("--spread", type=float, default=1.0)
    parser.add_argument("--smallest", type=int, default=2)
    parser.add_argument("--largest", type=int, default=20)
    parser.add_argument("--types", nargs="+", default=["diag", "full"])
    parser.add_argument("--starts", type=int, default=10)
    parser.add_argument("--scikit-learn-starts", type=int)
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--repeats", type=int, default=1, help="the fastest of each is reported")
    parser.add_argument("--worker", choices=CONTENDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work(options)
        return
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in options.contenders}
    for _ in range(options.repeats):
        for name, runs in results.items():
            runs.append(result_of(name))
            print(f"{name}: {runs[-1]['seconds']:.2f} s", file=sys.stderr, flush=True)
    report(results, options)


if __name__ == "__main__":
    main()
