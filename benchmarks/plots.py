"""The plots of the pages."""

from matplotlib.figure import Figure

from benchmarks.figures import libraries_in
from benchmarks.peers import OURS

_PARTS = {
    "good": (["good", "good, warns"], "#2a9d6f"),
    "clear error": (["clear error"], "#e9c46a"),
    "other error": (["error"], "#f4a261"),
    "wrong, crash or time-out": (["wrong", "crash", "time-out"], "#d1495b"),
    "not offered": (["not offered"], "#d9d9d9"),
}


def plot_ratios(fits, path):
    """How many times as long as here an iteration takes elsewhere, on a logarithmic axis."""
    titles = list(reversed(fits["title"].unique()))
    others = [name for name in libraries_in(fits) if name != OURS]
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
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def plot_endings(counts, path):
    """How the fits of each library ended, as parts of a bar; a row for each library."""
    counts = counts.iloc[::-1]
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    left = 0
    for part, (outcomes, colour) in _PARTS.items():
        widths = counts[outcomes].sum(axis=1)
        bar = axes.barh(range(len(counts)), widths, left=left, color=colour, label=part)
        labels = [str(width) if width else "" for width in widths]
        axes.bar_label(bar, labels, label_type="center", fontsize=9)
        left = left + widths
    axes.set_yticks(range(len(counts)), counts.index)
    axes.set_xlabel("fits")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside upper center", ncols=len(_PARTS), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
