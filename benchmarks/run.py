"""Let the libraries take turns, each time in a fresh process, and keep what they answer."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks import environment
from benchmarks.cases import (
    CASES,
    COVARIANCES,
    DTYPES,
    JOBS,
    TASKS,
    Measurement,
    short_form,
    whole_form,
)
from benchmarks.peers import BASELINE, OURS, PEERS

ROOT = Path(__file__).resolve().parent.parent

Plan = list[tuple[Measurement, tuple[str, ...]]]


def main(arguments: Sequence[str] | None = None) -> None:
    options = _options(arguments)
    plan = make_plan(options)
    if options.dry_run:
        for measurement, libraries in plan:
            print(*asdict(measurement).values(), "|", ", ".join(libraries))
        number = sum(len(libraries) for _, libraries in plan) * options.repeats
        print(f"{len(plan)} measurements, {number} processes")
        return
    output = Path(options.output)
    results = Results(output, append=options.append or options.resume, device=options.device)
    for done, (measurement, libraries) in enumerate(plan, 1):
        if options.resume and results.holds(measurement, libraries):
            continue
        print(f"[{done}/{len(plan)}]", *asdict(measurement).values(), flush=True)
        for record in measure(measurement, libraries, options):
            results.add(record)
            print("   ", _line(record), flush=True)
    if not options.no_report:
        from benchmarks.report import write_report

        page = write_report([output], output.with_suffix(".md"), output.parent)
        print(f"Written: {output}, {page}")


def make_plan(options: argparse.Namespace) -> Plan:
    """The measurements of a form, or those that the options ask for."""
    chosen = options.libraries or list(PEERS)
    plan = []
    for measurement, libraries in _measurements(options):
        names = [name for name in _candidates(measurement.task) if _is_chosen(name, chosen)]
        if libraries is not None and not options.libraries:
            names = [name for name in names if name in libraries]
        if names:
            plan.append((measurement, tuple(names)))
    return plan


def _measurements(
    options: argparse.Namespace,
) -> Iterable[tuple[Measurement, tuple[str, ...] | None]]:
    form = short_form() if options.form == "short" else whole_form()
    if not any((options.cases, options.tasks, options.covariances, options.dtypes)):
        return form
    if options.cases and options.tasks:
        return (
            (Measurement(task, case, covariance, dtype), None)
            for task in options.tasks
            for case in options.cases
            for dtype in options.dtypes or ["float64"]
            for covariance in options.covariances or COVARIANCES
        )
    return (
        (measurement, libraries)
        for measurement, libraries in whole_form()
        if measurement.case in (options.cases or CASES)
        and measurement.task in (options.tasks or TASKS)
        and measurement.covariance in (options.covariances or COVARIANCES)
        and measurement.dtype in (options.dtypes or DTYPES)
    )


def _candidates(task: str) -> list[str]:
    if task in JOBS:
        return [OURS, "scikit-learn"]
    if task == "product":
        return ["numpy", "torch"]
    if task == "import":
        return [BASELINE, *(name for name in PEERS if name != "scikit-learn, torch")]
    return list(PEERS)


def _is_chosen(name: str, chosen: Sequence[str]) -> bool:
    return name in chosen or name not in PEERS


def measure(
    measurement: Measurement, libraries: Sequence[str], options: argparse.Namespace
) -> Iterator[dict[str, Any]]:
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
            yield {
                **request,
                "repeat": repeat,
                "version": environment.version(distribution),
                **answer,
            }


def ask(request: dict[str, Any], timeout: float) -> dict[str, Any]:
    """The answer of a worker, or why there is none."""
    variables = {k: v for k, v in os.environ.items() if k not in environment.BLAS_SWITCHES}
    entry = PEERS.get(request["library"])
    variables.update(entry.environment if entry is not None else {})
    variables["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    )
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.worker", json.dumps(request)]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, env=variables, timeout=timeout, cwd=ROOT
        )
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {timeout:g} s", "ended": "time-out"}
    if run.returncode != 0 or not run.stdout.strip():
        why = next(reversed(run.stderr.strip().splitlines()), "")
        error = f"the process ended with {run.returncode}: {why}"[:200]
        return {"error": error, "ended": "crash"}
    return json.loads(run.stdout.strip().splitlines()[-1])


class Results:
    """A file of records, written anew after each: what is interrupted is not lost.

    What a record was measured on stands in `environments`, under the name that the record gives.
    """

    def __init__(self, path: Path, *, append: bool, device: str) -> None:
        self.path = path
        self._here = {**environment.machine(), "commit": environment.commit(), "device": device}
        self.content: dict[str, Any] = {"environments": {}, "records": []}
        if append and path.exists():
            self.content = json.loads(path.read_text())
        path.parent.mkdir(parents=True, exist_ok=True)

    def holds(self, measurement: Measurement, libraries: Sequence[str]) -> bool:
        """Whether the file has something from each of the libraries."""
        device = self._here["device"]
        found = {_key(record) for record in self.content["records"]}
        wanted = ({**asdict(measurement), "library": name, "device": device} for name in libraries)
        return all(_key(request) in found for request in wanted)

    def add(self, record: dict[str, Any]) -> None:
        here = {**self._here, **record.pop("libraries", {})}
        name = hashlib.sha256(json.dumps(here, sort_keys=True).encode()).hexdigest()[:8]
        if "values" in record:
            self.content["environments"].setdefault(name, here)
        day = datetime.now(timezone.utc).date().isoformat()
        key = _key(record)
        # A measurement that is taken again replaces what an earlier run left.
        if record["repeat"] == 0:
            self.content["records"] = [r for r in self.content["records"] if _key(r) != key]
        self.content["records"].append({**record, "environment": name, "day": day})
        rows = ",\n".join(json.dumps(r) for r in self.content["records"])
        environments = json.dumps(self.content["environments"], indent=1)
        text = f'{{"environments": {environments},\n"records": [\n{rows}\n]}}\n'
        temporary = self.path.with_suffix(".part")
        temporary.write_text(text)
        temporary.replace(self.path)


def _key(record: dict[str, Any]) -> tuple[str, ...]:
    return tuple(
        record[name] for name in ("task", "case", "covariance", "dtype", "library", "device")
    )


def _line(record: dict[str, Any]) -> str:
    name = f"{record['library']:<20}"
    if "values" not in record:
        return name + (record.get("error") or "– " + record["not_offered"])
    numbers = (f"{k} {v:.6g}" for k, v in record["values"].items() if v is not None)
    return name + ", ".join(numbers)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--form", choices=["short", "whole"], default="short")
    parser.add_argument("--cases", nargs="+", choices=list(CASES), metavar="CASE")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, metavar="TASK")
    parser.add_argument("--covariances", nargs="+", choices=COVARIANCES)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES)
    parser.add_argument("--libraries", nargs="+", choices=list(PEERS), metavar="LIBRARY")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--timeout", type=float, default=600.0, help="seconds a process may take")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--output", default="benchmarks/output/short.json")
    parser.add_argument("--append", action="store_true", help="keep what the output holds")
    parser.add_argument("--resume", action="store_true", help="leave out what the output holds")
    parser.add_argument("--no-report", action="store_true", help="write the JSON file alone")
    parser.add_argument("--dry-run", action="store_true", help="list what would be measured")
    parser.epilog = (
        f"cases: {', '.join(CASES)}; tasks: {', '.join(TASKS)}; libraries: {', '.join(PEERS)}. "
        f"Cases and tasks together are a plan of their own, all pairs of them; one of them alone "
        f"is a selection from the whole form. Ratios are to {OURS}."
    )
    return parser.parse_args(arguments)
