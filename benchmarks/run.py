"""Let the libraries take turns, each time in a fresh process, and keep what they answer."""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from benchmarks import environment
from benchmarks.cases import COVARIANCES
from benchmarks.forms import ALL, FORMS, WHOLE, Block, Measurement
from benchmarks.peers import PEERS
from benchmarks.results import Record, Results
from benchmarks.tasks import TASKS

Plan = list[tuple[Measurement, tuple[str, ...]]]


def make_plan(options: argparse.Namespace) -> Plan:
    """The measurements of a form, or those that the options ask for.

    Cases and tasks together are a plan of their own, all pairs of them; one of them alone is a
    selection from the whole form.
    """
    fields = ("task", "case", "covariance", "dtype")
    asked = {name: values for name in fields if (values := getattr(options, f"{name}s"))}
    blocks = WHOLE if asked else FORMS[options.form]
    if options.tasks and options.cases:
        covariances, dtypes = options.covariances or COVARIANCES, options.dtypes or ("float64",)
        blocks = (Block(options.tasks, options.cases, covariances, dtypes, ALL),)
    plan = []
    for block in blocks:
        libraries = options.libraries or block.libraries
        for measurement in block:
            names = TASKS[measurement.task].libraries
            names = tuple(name for name in names if name in libraries or name not in PEERS)
            is_asked = all(getattr(measurement, name) in asked[name] for name in asked)
            if names and is_asked:
                plan.append((measurement, names))
    return plan


def take(plan: Plan, results: Results, options: argparse.Namespace) -> None:
    """Take the measurements of a plan, and tell of them."""
    for done, (measurement, libraries) in enumerate(plan, 1):
        if options.resume and results.holds(measurement, libraries):
            continue
        print(f"[{done}/{len(plan)}]", *asdict(measurement).values(), flush=True)
        for record in measure(measurement, libraries, options):
            results.add(record)
            print("   ", _line(record), flush=True)


def measure(
    measurement: Measurement, libraries: Sequence[str], options: argparse.Namespace
) -> Iterator[Record]:
    """Records of a measurement: in each repeat every library once, beginning with another."""
    failed: set[str] = set()
    for repeat in range(options.repeats):
        first = repeat % len(libraries)
        for library in (*libraries[first:], *libraries[:first]):
            if library in failed:
                continue
            request = {**asdict(measurement), "library": library, "device": options.device}
            answer = ask(request, timeout=options.timeout)
            if "values" not in answer:
                failed.add(library)
            distribution = PEERS[library].distribution if library in PEERS else library
            version = environment.version(distribution)
            yield {**request, "repeat": repeat, "version": version, **answer}


def ask(request: Record, timeout: float) -> Record:
    """The answer of a worker, or why there is none."""
    variables = {k: v for k, v in os.environ.items() if k not in environment.BLAS_SWITCHES}
    if request["library"] in PEERS:
        variables |= PEERS[request["library"]].environment
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(request)]
    options = {"capture_output": True, "text": True, "env": variables, "cwd": environment.ROOT}
    try:
        run = subprocess.run(command, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:g} s", "ended": "time-out"}
    if run.returncode != 0 or not run.stdout.strip():
        why = next(reversed(run.stderr.strip().splitlines()), "")
        error = f"the process ended with {run.returncode}: {why}"[:200]
        return {"error": error, "ended": "crash"}
    return json.loads(run.stdout.strip().splitlines()[-1])


def _line(record: Record) -> str:
    name = f"{record['library']:<20}"
    if "values" not in record:
        return name + (record.get("error") or "– " + record["not_offered"])
    numbers = (
        f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}"
        for k, v in record["values"].items()
        if v is not None
    )
    return name + ", ".join(numbers)
