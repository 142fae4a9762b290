"""The plot of the page: how the fits of each library ended, as shares of a bar."""

from pathlib import Path

from benchmarks.results import load
from benchmarks.robustness.page import LIBRARIES, counts, endings_of

_PARTS = {
    "good": (["good", "good, warns"], "#2a9d6f"),
    "clear error": (["clear error"], "#e9c46a"),
    "other error": (["error"], "#f4a261"),
    "wrong, crash or time-out": (["wrong", "crash", "time-out"], "#d1495b"),
    "not offered": (["not offered"], "#d9d9d9"),
}


def draw(results: Path, path: Path) -> Path:
    from matplotlib.figure import Figure

    found = counts(endings_of(load(results)["records"])).reindex(LIBRARIES[::-1], fill_value=0)
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    left = 0
    for part, (outcomes, colour) in _PARTS.items():
        widths = found[outcomes].sum(axis=1)
        bar = axes.barh(range(len(found)), widths, left=left, color=colour, label=part)
        labels = [str(width) if width else "" for width in widths]
        axes.bar_label(bar, labels, label_type="center", fontsize=9)
        left = left + widths
    axes.set_yticks(range(len(found)), found.index)
    axes.set_xlabel("fits")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside upper center", ncols=len(_PARTS), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    return path
