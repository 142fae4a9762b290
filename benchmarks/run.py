"""Let the libraries take turns, each time in a fresh process, and keep what they answer."""

import json
import os
import subprocess
import sys
from dataclasses import asdict

from benchmarks.cases import COVARIANCES
from benchmarks.environment import ROOT, SELECTS_KERNELS, version
from benchmarks.forms import ALL, SHORT, WHOLE, Block
from benchmarks.peers import PEERS
from benchmarks.tasks import TASKS


def make_plan(options):
    """The measurements of a form, or those that the options ask for, each with its libraries.

    Cases and tasks together are a plan of their own, all pairs of them; one of them alone is a
    selection from the whole form.
    """
    fields = ("task", "case", "covariance", "dtype")
    asked = {name: values for name in fields if (values := getattr(options, f"{name}s"))}
    blocks = WHOLE if asked or options.form == "whole" else SHORT
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


def take(plan, results, options):
    """Take the measurements of a plan, and tell of them."""
    for done, (measurement, libraries) in enumerate(plan, 1):
        if options.resume and results.holds(measurement, libraries):
            continue
        print(f"[{done}/{len(plan)}]", *asdict(measurement).values(), flush=True)
        for record in measure(measurement, libraries, options):
            results.add(record)
            answer = record.get("values") or record.get("error") or record["not_offered"]
            print(f"    {record['library']:<20}{answer}", flush=True)


def measure(measurement, libraries, options):
    """Records of a measurement: in each repeat every library once, beginning with another."""
    failed = set()
    for repeat in range(options.repeats):
        first = repeat % len(libraries)
        for library in (*libraries[first:], *libraries[:first]):
            if library in failed:
                continue
            request = {**asdict(measurement), "library": library, "device": options.device}
            answer = ask(request, options.timeout)
            if "values" not in answer:
                failed.add(library)
            distribution = PEERS[library].distribution if library in PEERS else library
            yield {**request, "repeat": repeat, "version": version(distribution), **answer}


def ask(request, timeout):
    """The answer of a worker, or why there is none."""
    variables = {k: v for k, v in os.environ.items() if not SELECTS_KERNELS.match(k)}
    if request["library"] in PEERS:
        variables |= PEERS[request["library"]].environment
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(request)]
    options = {"capture_output": True, "text": True, "env": variables, "cwd": ROOT}
    try:
        run = subprocess.run(command, timeout=timeout, **options)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:g} s", "ended": "time-out"}
    if run.returncode == 0 and run.stdout.strip():
        return json.loads(run.stdout.strip().splitlines()[-1])
    why = (run.stderr.strip().splitlines() or [""])[-1]
    error = f"the process ended with {run.returncode}: {why}"[:200]
    return {"error": error, "ended": "crash"}
