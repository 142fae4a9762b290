"""The plot of a page: dots on a logarithmic axis."""

from pathlib import Path

import pandas as pd

from benchmarks.figures import libraries_in
from benchmarks.peers import OURS


def plot(fits: pd.DataFrame, path: Path) -> None:
    """How many times as long as here an iteration takes elsewhere."""
    from matplotlib.figure import Figure

    titles = list(reversed(fits["title"].unique()))
    others = [name for name in libraries_in(fits) if name != OURS]
    path.parent.mkdir(parents=True, exist_ok=True)
    figure = Figure(figsize=(8, 1.4 + 0.26 * len(titles)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(1, color="black", linewidth=1)
    for number, library in enumerate(others):
        found = fits[fits["library"] == library].dropna(subset="ratio")
        if len(found):
            style = {"label": library, "color": f"C{number}", "marker": "osD^vP*"[number % 7]}
            heights = found["title"].map(titles.index)
            axes.scatter(found["ratio"], heights, s=30, alpha=0.85, **style)
    axes.set_xscale("log")
    axes.set_yticks(range(len(titles)), titles, fontsize=8)
    axes.set_xlabel("time of an EM iteration / that of this package (right of the line: slower)")
    axes.grid(axis="both", color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper center", ncols=4, frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
