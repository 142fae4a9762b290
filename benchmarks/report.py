"""Tables and plots of files of results; each file begins with the cases that this package loses."""

import pandas as pd

from benchmarks.figures import figures_of, libraries_in, losses, product_fraction
from benchmarks.markdown import markdown
from benchmarks.peers import BASELINE, OURS
from benchmarks.plots import plot_ratios
from benchmarks.results import load
from benchmarks.tasks import TASKS

README_CASE = "100k-32-16"

HEADINGS = {"cpu": "On an Intel Xeon", "cpu-amd": "On an AMD EPYC", "gpu": "On a GPU"}
"""Of the published files of results, in their order."""


def section(path, images, link=""):
    """The text for a file of results, with a plot if there are fits in it."""
    content = load(path)
    figures = figures_of(content["records"])
    versions = figures.dropna(subset="version").groupby("library", sort=False)["version"].last()
    listed = ", ".join(f"{library} {versions[library]}" for library in versions.index)
    heading = [f"## {HEADINGS.get(path.stem, path.stem)}\n", *describe_environments(content)]
    parts = [*heading, f"\nLibraries: {listed}.\n", *_losses(figures), ""]
    fits = figures[figures["task"] == "fit"]
    if len(fits):
        image = images / f"benchmarks-{path.stem}.png"
        plot_ratios(fits, image)
        # The page shows the first plot above, where a newcomer sees it.
        if path.stem != next(iter(HEADINGS)):
            alt = "Time of an EM iteration, relative to this package"
            parts.append(f"![{alt}]({link}{image.name})\n")
    parts += [_table(task, figures) for task in TASKS if task in set(figures["task"])]
    return "\n".join(parts)


def ratios(path):
    """A machine, and a table of an EM iteration's ratios there, for the README."""
    content = load(path)
    figures = figures_of(content["records"])
    is_shown = (figures["task"] == "fit") & (figures["case"] == README_CASE)
    rows = figures[is_shown & (figures["dtype"] == "float64")]
    used = rows.loc[rows["library"] == OURS, "environment"].unique()
    machines = {_machine(content["environments"][name]) for name in used}
    versions = rows.groupby("library")["version"].last()
    names = {name: f"{name} {versions[name]}" for name in libraries_in(rows) if name != OURS}
    cells = rows["ratio"].map(times, na_action="ignore")
    table = _pivot(rows, "covariance", cells)[list(names)].rename(columns=names)
    table = markdown(table.reset_index(names="covariances"))
    return "\n".join(["; ".join(sorted(machines)) + ":", "", table, ""])


def _pivot(rows, index, cells):
    """A row for each value of the index, a column for each library, in the order of the rows."""
    table = rows.assign(cell=cells).pivot(index=index, columns="library", values="cell")
    return table.fillna("").loc[rows[index].unique(), libraries_in(rows)]


def _losses(figures):
    lines = [
        f"- {TASKS[loss['task']].title}, {loss['title']}: {loss['library']}, {loss['ratio']:.2g}×"
        for _, loss in losses(figures).iterrows()
    ]
    heading = "Where another library is ahead:\n" if lines else "No other library is ahead.\n"
    return [heading, *lines]


def describe_environments(content):
    """Lines for each machine: its commits, and what was used there."""
    machines = {}
    for found in content["environments"].values():
        machines.setdefault(_machine(found), []).append(found)
    lines = []
    for machine, environments in machines.items():
        commits = dict.fromkeys(found["commit"] for found in environments)
        plural = "s" if len(commits) > 1 else ""
        lines.append(f"- {machine}; commit{plural} {', '.join(commits)}")
        parts = (set().union(*sets) for sets in zip(*map(_used, environments), strict=True))
        lines += [f"  - {', '.join(sorted(part))}" for part in parts if part]
    return lines


def _machine(found):
    gpu = f"{found['gpu']}; " if "gpu" in found else ""
    return gpu + "{processor}, {cores} cores, {memory_gb} GB, {system}".format(**found)


def _used(found):
    """Python, libraries, threads."""
    versions = found.get("versions", {}).items()
    threads = {name.replace(" None", "") for name in found.get("blas", [])}
    if "torch_threads" in found:
        threads.add(f"torch with {found['torch_threads']} threads, {found.get('torch_blas')}")
    libraries = {f"{name} {version}" for name, version in versions if version}
    return {f"Python {found['python']}"}, libraries, threads


def _table(task, figures):
    """The rows of a task, a column for each library, and numbered notes."""
    rows = figures[figures["task"] == task]
    notes = {note: number for number, note in enumerate(rows["note"].dropna().unique(), 1)}
    cells = [_cell(figure, figures, notes) for _, figure in rows.iterrows()]
    table = markdown(_pivot(rows, "title", cells).reset_index(names="case"))
    numbered = [f"{number}. {note}" for note, number in notes.items()]
    return "\n".join([f"### {TASKS[task].title}\n", table, "", *numbered, ""])


def _cell(figure, figures, notes):
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


def times(quotient):
    return f"{quotient:.2g}×" if quotient < 100 else f"{quotient:.0f}×"


def with_unit(task, value):
    kind = TASKS[task].compared
    if kind == "flops_per_second":
        return f"{value / 1e9:.3g} GFLOP/s"
    if kind == "bytes":
        return f"{value / 2**20:.1f} MB"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.3g} µs"
