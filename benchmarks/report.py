"""A page of tables, and a plot for each file of results.

python -m benchmarks.report     # docs/benchmarks.md and the README's table, from benchmarks/results
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, JOBS, TASKS
from benchmarks.figures import (
    Figure,
    Figures,
    Row,
    figures_of,
    libraries_in,
    load,
    losses,
    product_fraction,
    ratio,
    remarks,
)
from benchmarks.peers import BASELINE, OURS

ROOT = Path(__file__).resolve().parent.parent

_TITLES = {
    "fit": "An EM iteration",
    "fit-default": "A whole fit with the default initialization",
    "predict": "predict",
    "predict_proba": "predict_proba",
    "score_samples": "score_samples",
    "sample": "sample, as many samples as the case has",
    "restarts": "Ten initializations, a fixed number of iterations each",
    "restarts-default": "Ten default initializations, each until it converges",
    "memory-fit": "Extra memory of a fit",
    "memory-fit-4n": "Extra memory of a fit to four times as many samples",
    "memory-predict_proba": "Extra memory of predict_proba, beyond its result",
    "import": "Import",
    "first-prediction": "First prediction of a pickled pipeline, in a fresh process",
    "product": "A large matrix product",
    **JOBS,
}

_README_CASE = "100k-32-16"
_RATIOS_START = "<!-- ratios: written by python -m benchmarks.report -->"
_RATIOS_END = "<!-- end of the ratios -->"

_HEADINGS = {"cpu": "On an Intel Xeon", "cpu-amd": "On an AMD EPYC", "gpu": "On a GPU"}

_INTRODUCTION = """# Benchmarks

How long do other libraries take for the same work? In the plot, each line is a case ([samples,
features] → components) and each dot is a library; a library to the right of 1 is slower than this
package. The gain grows with the data: for data as small as iris, scikit-learn is often faster, and
for a few thousand samples daal4py is. Each section begins with the cases that this package loses.
"""

_METHOD = """## How it was measured

Each library fits the same samples, from the same parameters, for the same number of iterations: the
tolerance is zero or out of reach. Each measurement runs in a process of its own; the libraries take
turns, and a figure is the median over the repeats. Within a process, a short call is repeated for
half a second, after a first call that is not counted. Each library uses its default number of
threads, and environment variables that select BLAS kernels are unset.

The time of an iteration is (time of the longer fit − time of the shorter fit) / (difference of
their iterations). This excludes the one-off cost of a fit, such as the checks of the data and the
initialization, whose share would depend on how many iterations a fit happens to take. The time in
brackets is that of the longer fit divided by all of its iterations, which includes this cost. The
samples are drawn from a mixture with overlapping components. Its parameters, with each mean moved
by a third of its component's standard deviation, are the initialization. Some libraries cannot be
given all of them: torchgmm takes only the means.

A ratio such as 3.2× means that the library takes 3.2 times as long as this package. A ratio below
1×, in bold, means that the library is faster. "–" means that the library does not offer the case.
"% of a product" is the arithmetic rate of the two matrix products of an iteration, as a share of
the rate of one large matrix product in float64, in torch or NumPy, whichever is faster.

```sh
make bench        # a short form, in about three minutes
make bench-all    # everything below, in hours
```

"""


def write_report(paths: Sequence[Path], page: Path, images: Path, link: str = "") -> Path:
    """Write the page, and a PNG for each file of results that has fits in it."""
    parts = [_INTRODUCTION, _METHOD]
    for path in paths:
        content = load(path)
        figures = figures_of(content["records"])
        parts.append(_section(path.stem, content, figures))
        if any(row.task == "fit" for row in figures):
            image = images / f"benchmarks-{path.stem}.png"
            plot(figures, image)
            alt = "Time of an EM iteration, relative to this package"
            # A newcomer sees the first plot before anything else.
            place = 1 if path == paths[0] else len(parts)
            parts.insert(place, f"![{alt}]({link}{image.name})\n")
        parts.extend(
            _table(task, figures) for task in TASKS if any(r.task == task for r in figures)
        )
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text("\n".join(parts).rstrip() + "\n")
    return page


def _times(quotient: float) -> str:
    return f"{quotient:.2g}×" if quotient < 100 else f"{quotient:.0f}×"


def write_ratios(paths: Sequence[Path], readme: Path) -> None:
    """Put the ratios of an EM iteration between the README's two marks, and their machines."""
    case = CASES[_README_CASE].title
    lines = [f"An iteration of EM at {case} in float64; others' time divided by ours.", ""]
    for path in paths:
        lines += [*_ratios(load(path)), ""]
    before, start, rest = readme.read_text().partition(_RATIOS_START)
    _, end, after = rest.partition(_RATIOS_END)
    if not (start and end):
        msg = f"{readme} lacks the marks of the ratios: {_RATIOS_START} ... {_RATIOS_END}"
        raise ValueError(msg)
    readme.write_text("\n".join([before + start, "", *lines, end + after]))


def _ratios(content: dict[str, Any]) -> list[str]:
    """A machine, and a table of its ratios."""
    figures = figures_of(content["records"])
    rows = [
        row
        for row in figures
        if (row.task, row.case, row.dtype) == ("fit", _README_CASE, "float64")
    ]
    others = [name for name in libraries_in({row: figures[row] for row in rows}) if name != OURS]
    versions = {library: figure.version for row in rows for library, figure in figures[row].items()}
    used = {figures[row][OURS].environment for row in rows if OURS in figures[row]}
    machines = {
        "{processor}, {cores} cores, {memory_gb} GB, {system}".format(
            **content["environments"][name]
        )
        for name in used
    }
    lines = [
        "; ".join(sorted(machines)) + ":",
        "",
        "| covariances | " + " | ".join(f"{name} {versions[name]}" for name in others) + " |",
        "|---|" + "---|" * len(others),
    ]
    for row in rows:
        quotients = [ratio(row, figures[row], name) for name in others]
        cells = ["" if quotient is None else _times(quotient) for quotient in quotients]
        lines.append(f"| {row.covariance} | " + " | ".join(cells) + " |")
    return lines


def _section(name: str, content: dict[str, Any], figures: Figures) -> str:
    lines = [f"## {_HEADINGS.get(name, name)}\n", *describe_environments(content), ""]
    versions = {
        library: figure.version
        for libraries in figures.values()
        for library, figure in libraries.items()
        if figure.version is not None
    }
    listed = ", ".join(f"{library} {versions[library]}" for library in versions)
    lines.append(f"Libraries: {listed}.\n")
    lost = losses(figures)
    lines.append("Where another library is ahead:\n" if lost else "No other library is ahead.\n")
    lines += [
        f"- {_TITLES[row.task]}, {_what(row)}: {library}, {quotient:.2g}×"
        for quotient, row, library in lost
    ]
    return "\n".join(lines) + "\n"


def describe_environments(content: dict[str, Any]) -> list[str]:
    machines = {}
    for found in content["environments"].values():
        key = (found["processor"], found["cores"], found["memory_gb"], found["system"])
        parts = machines.setdefault((*key, found.get("gpu")), {})
        parts.setdefault("commits", {})[found["commit"]] = None
        parts.setdefault("python", set()).add(f"Python {found['python']}")
        for library, version in found.get("versions", {}).items():
            if version is not None:
                parts.setdefault("versions", set()).add(f"{library} {version}")
        blas = (name.replace(" None", "") for name in found.get("blas", []))
        parts.setdefault("blas", set()).update(blas)
        if "torch_threads" in found:
            threads = f"torch with {found['torch_threads']} threads, {found.get('torch_blas')}"
            parts["blas"].add(threads)
    lines = []
    for (processor, cores, memory, system, gpu), parts in machines.items():
        on = f" {gpu};" if gpu else ""
        commits = list(parts.pop("commits"))
        what = f"commit{'s' if len(commits) > 1 else ''} {', '.join(commits)}"
        lines.append(f"-{on} {processor}, {cores} cores, {memory} GB, {system}; {what}")
        lines += [f"  - {', '.join(sorted(parts[name]))}" for name in parts if parts[name]]
    return lines


def _table(task: str, figures: Figures) -> str:
    rows = {row: libraries for row, libraries in figures.items() if row.task == task}
    names = libraries_in(rows)
    lines = [
        f"### {_TITLES[task]}\n",
        "| case | " + " | ".join(names) + " |",
        "|---|" + "---|" * len(names),
    ]
    notes: list[str] = []
    for row, libraries in rows.items():
        cells = [_cell(row, libraries, name, figures, notes) for name in names]
        lines.append(f"| {_what(row)} | " + " | ".join(cells) + " |")
    lines += ["", *(f"{number}. {note}" for number, note in enumerate(notes, 1))]
    return "\n".join(lines) + "\n"


def _cell(
    row: Row, libraries: dict[str, Figure], library: str, figures: Figures, notes: list[str]
) -> str:
    figure = libraries.get(library)
    if figure is None:
        return ""
    note = figure.problem or remarks(row, libraries, library)
    mark = ""
    if note and not note.startswith("–"):
        if note not in notes:
            notes.append(note)
        mark = f" ({notes.index(note) + 1})"
    value = figure.compared(row.task)
    if value is None:
        return "fails" + mark if mark else "–"
    text = _with_unit(row.task, value)
    if row.task == "fit":
        text += f" [{_with_unit(row.task, figure.values['whole_per_iteration'])}]"
    if "single_fits" in figure.values:
        text += f" = {figure.values['single_fits']:.1f} single fits"
    if library == OURS:
        share = product_fraction(row, figure, figures)
        text += f", {share:.0%} of a product" if share is not None else ""
    elif library != BASELINE and (quotient := ratio(row, libraries, library)) is not None:
        times = _times(quotient)
        text = f"{f'**{times}**' if quotient < 1 else times}, {text}"
    return text + mark


def _with_unit(task: str, value: float) -> str:
    if task == "product":
        return f"{value / 1e9:.3g} GFLOP/s"
    if task.startswith("memory"):
        return f"{value / 2**20:.1f} MB"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"


def _what(row: Row) -> str:
    if row.task == "product":
        return f"{row.dtype}, {row.device}"
    if row.task == "import":
        return "a fresh process"
    case = CASES[row.case].title
    device = "" if row.device == "cpu" else f", {row.device}"
    dtype = "" if row.dtype == "float64" else f", {row.dtype}"
    covariance = "" if row.covariance == "all" else f", {row.covariance}"
    return f"{case}{covariance}{dtype}{device}"


def plot(figures: Figures, path: Path) -> None:
    """Dots on a logarithmic axis: how many times as long as here an iteration takes elsewhere."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [row for row in figures if row.task == "fit"]
    others = [name for name in libraries_in({row: figures[row] for row in rows}) if name != OURS]
    path.parent.mkdir(parents=True, exist_ok=True)
    size = (8, 1.4 + 0.26 * len(rows))
    with plt.style.context("default"):
        figure, axes = plt.subplots(figsize=size, layout="constrained")
        axes.axvline(1, color="black", linewidth=1)
        for number, library in enumerate(others):
            found = [
                (quotient, height)
                for height, row in enumerate(reversed(rows))
                if (quotient := ratio(row, figures[row], library)) is not None
            ]
            style = {"label": library, "color": f"C{number}", "marker": "osD^vP*"[number % 7]}
            if found:
                axes.scatter(*zip(*found, strict=True), s=30, alpha=0.85, **style)
        axes.set_xscale("log")
        axes.set_yticks(range(len(rows)), [_what(row) for row in reversed(rows)], fontsize=8)
        axes.set_xlabel(
            "time of an EM iteration / that of this package (right of the line: slower)"
        )
        axes.grid(axis="both", color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        if axes.get_legend_handles_labels()[0]:
            figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
        figure.savefig(path, dpi=110)
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description=__doc__)
    parser.add_argument("results", nargs="*", type=Path)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "benchmarks.md")
    options = parser.parse_args(arguments)
    found = (ROOT / "benchmarks" / "results" / f"{name}.json" for name in _HEADINGS)
    paths = options.results or [path for path in found if path.exists()]
    print(write_report(paths, options.page, options.page.parent / "images", "images/"))
    if not options.results:
        write_ratios([path for path in paths if path.stem != "gpu"], ROOT / "README.md")


if __name__ == "__main__":
    main()
