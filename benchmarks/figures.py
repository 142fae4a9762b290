"""From records to figures: medians over the repeats, ratios to this package."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES
from benchmarks.peers import BASELINE, OURS, PEERS

COMPARED = {
    "fit": "per_iteration",
    "memory-fit": "bytes",
    "memory-fit-4n": "bytes",
    "memory-predict_proba": "bytes",
    "product": "flops_per_second",
}
"""The number of a task that libraries are compared by; "seconds" for the others."""

_SAME_LIKELIHOOD = 1e-3


@dataclass(frozen=True)
class Row:
    """What is in one row of a table."""

    task: str
    case: str
    covariance: str
    dtype: str
    device: str


@dataclass
class Figure:
    """What a library reached: medians of its numbers, or why there are none."""

    values: dict[str, float] = field(default_factory=dict)
    repeats: int = 0
    problem: str | None = None
    environment: str | None = None
    version: str | None = None

    def compared(self, task: str) -> float | None:
        value = self.values.get(COMPARED.get(task, "seconds"))
        if task == "fit" and value is not None and value <= 0:
            # The difference of two fits is lost in the noise: what is left is the mean.
            return self.values.get("whole_per_iteration")
        return value


Figures = dict[Row, dict[str, Figure]]


def load(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def figures_of(records: Iterable[dict[str, Any]]) -> Figures:
    grouped: dict[Row, dict[str, list[dict[str, Any]]]] = {}
    for record in records:
        row = Row(*(record[name] for name in ("task", "case", "covariance", "dtype", "device")))
        grouped.setdefault(row, {}).setdefault(record["library"], []).append(record)
    return {
        row: {library: _figure(found) for library, found in libraries.items()}
        for row, libraries in grouped.items()
    }


def _figure(records: list[dict[str, Any]]) -> Figure:
    worked = [record for record in records if "values" in record]
    failed = [record for record in records if "values" not in record]
    figure = Figure(repeats=len(worked), version=records[-1].get("version"))
    if failed:
        figure.problem = failed[0].get("error") or "– " + failed[0]["not_offered"]
    if worked:
        figure.environment = worked[-1].get("environment")
        for name in worked[0]["values"]:
            numbers = [record["values"][name] for record in worked]
            if None not in numbers:
                figure.values[name] = statistics.median(numbers)
    return figure


def ratio(row: Row, libraries: dict[str, Figure], library: str) -> float | None:
    """How many times what this package takes a library takes; above one, this package wins."""
    ours, theirs = (
        libraries[name].compared(row.task) if name in libraries else None
        for name in (OURS, library)
    )
    if not ours or theirs is None:
        return None
    return theirs / ours


def product_fraction(row: Row, ours: Figure, figures: Figures) -> float | None:
    """The share of the rate of a large float64 product that an EM iteration reaches.

    What counts as its work are its two products of matrices alone. float64 whatever the data's
    dtype: that is what is computed in.
    """
    seconds = ours.compared(row.task)
    product = next(
        (
            libraries
            for other, libraries in figures.items()
            if (other.task, other.dtype, other.device) == ("product", "float64", row.device)
        ),
        {},
    )
    rates = [figure.values["flops_per_second"] for figure in product.values() if figure.values]
    if row.task != "fit" or not seconds or not rates:
        return None
    return CASES[row.case].flops(row.covariance) / seconds / max(rates)


def losses(figures: Figures) -> list[tuple[float, Row, str]]:
    """Where another library takes less, the widest margin first."""
    found = []
    for row, libraries in figures.items():
        # Imports are compared with those that every user of torch and scikit-learn has anyway.
        if row.task in ("product", "import"):
            continue
        for library in libraries:
            quotient = ratio(row, libraries, library)
            if library not in (OURS, BASELINE) and quotient is not None and quotient < 1:
                found.append((quotient, row, library))
    return sorted(found, key=lambda loss: loss[0])


def remarks(row: Row, libraries: dict[str, Figure], library: str) -> str:
    """How far a fit is from having done the same as the others."""
    figure = libraries[library]
    if row.task != "fit" or not figure.values:
        return ""
    said = []
    wanted = CASES[row.case].iterations[1]
    done = figure.values.get("iterations", wanted)
    if done != wanted:
        said.append(f"after {done:g} of {wanted} iterations")
    reached = figure.values.get("log_likelihood")
    ours = libraries.get(OURS)
    reference = None if ours is None else ours.values.get("log_likelihood")
    if reached is not None and reference is not None:
        difference = reached - reference
        if abs(difference) > _SAME_LIKELIHOOD * max(1.0, abs(reference)):
            said.append(f"log-likelihood {difference:+.2g} nats per sample")
    return "; ".join(said)


def libraries_in(figures: Figures) -> list[str]:
    """Names of the libraries, in the order in which they are listed."""
    found = {library for libraries in figures.values() for library in libraries}
    known = [BASELINE, *PEERS]
    return [name for name in known if name in found] + sorted(found - set(known))
