"""Tables and plots of files of results; each file begins with the cases that this package loses."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.cases import CASES
from benchmarks.figures import figures_of, libraries_in, losses, product_fraction
from benchmarks.markdown import markdown
from benchmarks.peers import BASELINE, OURS
from benchmarks.plot import plot
from benchmarks.results import load
from benchmarks.tasks import TASKS

README_CASE = "100k-32-16"

HEADINGS = {"cpu": "On an Intel Xeon", "cpu-amd": "On an AMD EPYC", "gpu": "On a GPU"}
"""Of the published files of results, in their order."""


def sections(paths: Sequence[Path], images: Path, link: str = "") -> str:
    """A section for each file, with a plot if there are fits in it."""
    parts = []
    for path in paths:
        content = load(path)
        figures = figures_of(content["records"])
        parts.append(_introduction(path.stem, content, figures))
        fits = figures[figures["task"] == "fit"]
        if len(fits):
            image = images / f"benchmarks-{path.stem}.png"
            plot(fits, image)
            # The page shows the first plot above, where a newcomer sees it.
            if path.stem != next(iter(HEADINGS)):
                alt = "Time of an EM iteration, relative to this package"
                parts.append(f"![{alt}]({link}{image.name})\n")
        parts += [_table(task, figures) for task in TASKS if task in set(figures["task"])]
    return "\n".join(parts)


def ratios(paths: Sequence[Path]) -> str:
    """The README's ratios of an EM iteration, a table for each machine."""
    case = CASES[README_CASE].title
    lines = [f"An iteration of EM at {case} in float64; others' time divided by ours.", ""]
    for content in map(load, paths):
        figures = figures_of(content["records"])
        is_shown = (figures["task"] == "fit") & (figures["case"] == README_CASE)
        rows = figures[is_shown & (figures["dtype"] == "float64")]
        used = rows.loc[rows["library"] == OURS, "environment"].unique()
        machines = {_machine(content["environments"][name]) for name in used}
        lines += ["; ".join(sorted(machines)) + ":", "", markdown(_ratios(rows)), ""]
    return "\n".join(lines)


def _ratios(rows: pd.DataFrame) -> pd.DataFrame:
    cells = rows.assign(ratio=rows["ratio"].map(times, na_action="ignore"))
    table = cells.pivot(index="covariance", columns="library", values="ratio").fillna("")
    versions = rows.groupby("library")["version"].last()
    names = {name: f"{name} {versions[name]}" for name in libraries_in(rows) if name != OURS}
    table = table.loc[rows["covariance"].unique(), list(names)].rename(columns=names)
    return table.reset_index(names="covariances")


def _introduction(name: str, content: dict[str, Any], figures: pd.DataFrame) -> str:
    versions = figures.dropna(subset="version").groupby("library", sort=False)["version"].last()
    listed = ", ".join(f"{library} {version}" for library, version in versions.items())
    heading = [f"## {HEADINGS.get(name, name)}\n", *describe_environments(content)]
    return "\n".join([*heading, f"\nLibraries: {listed}.\n", *lost(figures), ""])


def lost(figures: pd.DataFrame) -> list[str]:
    """Lines that tell where this package loses."""
    lines = [
        f"- {TASKS[loss['task']].title}, {loss['title']}: {loss['library']}, {loss['ratio']:.2g}×"
        for _, loss in losses(figures).iterrows()
    ]
    return [
        "Where another library is ahead:\n" if lines else "No other library is ahead.\n",
        *lines,
    ]


def describe_environments(content: dict[str, Any]) -> list[str]:
    """Lines for each machine: its commits, and what was used there."""
    machines: dict[str, list[dict[str, Any]]] = {}
    for found in content["environments"].values():
        machines.setdefault(_machine(found), []).append(found)
    lines = []
    for machine, environments in machines.items():
        commits = dict.fromkeys(found["commit"] for found in environments)
        plural = "s" if len(commits) > 1 else ""
        lines.append(f"- {machine}; commit{plural} {', '.join(commits)}")
        for parts in zip(*map(_used, environments), strict=True):
            told = ", ".join(sorted(set().union(*parts)))
            lines += [f"  - {told}"] if told else []
    return lines


def _machine(found: dict[str, Any]) -> str:
    gpu = f"{found['gpu']}; " if "gpu" in found else ""
    return gpu + "{processor}, {cores} cores, {memory_gb} GB, {system}".format(**found)


def _used(found: dict[str, Any]) -> tuple[set[str], set[str], set[str]]:
    """Python, libraries, threads."""
    versions = {
        f"{name} {version}" for name, version in found.get("versions", {}).items() if version
    }
    threads = {name.replace(" None", "") for name in found.get("blas", [])}
    if "torch_threads" in found:
        threads.add(f"torch with {found['torch_threads']} threads, {found.get('torch_blas')}")
    return {f"Python {found['python']}"}, versions, threads


def _table(task: str, figures: pd.DataFrame) -> str:
    """The rows of a task, a column for each library, and numbered notes."""
    rows = figures[figures["task"] == task].copy()
    names = libraries_in(rows)
    rows["title"] = pd.Categorical(rows["title"], rows["title"].unique())
    rows["library"] = pd.Categorical(rows["library"], names)
    rows = rows.sort_values(["title", "library"])
    notes = {note: number for number, note in enumerate(rows["note"].dropna().unique(), 1)}
    rows["cell"] = [_cell(figure, figures, notes) for _, figure in rows.iterrows()]
    table = rows.pivot(index="title", columns="library", values="cell").fillna("")
    table.columns = names
    lines = [f"### {TASKS[task].title}\n", markdown(table.reset_index(names="case")), ""]
    return "\n".join([*lines, *(f"{number}. {note}" for note, number in notes.items()), ""])


def _cell(figure: Any, figures: pd.DataFrame, notes: dict[str, int]) -> str:
    task, library = figure["task"], figure["library"]
    mark = f" ({notes[figure['note']]})" if figure["note"] in notes else ""
    if pd.isna(figure["compared"]):
        return "fails" + mark if mark else "–"
    text = with_unit(task, figure["compared"])
    if task == "fit":
        text += f" [{with_unit(task, figure['whole_per_iteration'])}]"
    if pd.notna(figure.get("single_fits")):
        text += f" = {figure['single_fits']:.1f} single fits"
    if library == OURS and task == "fit":
        share = product_fraction(figure, figures)
        text += f", {share:.0%} of a product" if pd.notna(share) else ""
    elif library not in (OURS, BASELINE) and pd.notna(figure["ratio"]):
        quotient = times(figure["ratio"])
        text = f"{f'**{quotient}**' if figure['ratio'] < 1 else quotient}, {text}"
    return text + mark


def times(quotient: float) -> str:
    return f"{quotient:.2g}×" if quotient < 100 else f"{quotient:.0f}×"


def with_unit(task: str, value: float) -> str:
    kind = TASKS[task].compared
    if kind == "flops_per_second":
        return f"{value / 1e9:.3g} GFLOP/s"
    if kind == "bytes":
        return f"{value / 2**20:.1f} MB"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
