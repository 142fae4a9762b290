"""The plot of the page: how the fits of each library ended, as shares of a bar."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from benchmarks.figures import load
from benchmarks.robustness.page import LIBRARIES, endings_of

_PARTS = {
    "good": ("good", "good, warns"),
    "clear error": ("clear error",),
    "other error": ("error",),
    "wrong, crash or time-out": ("wrong", "crash", "time-out"),
    "not offered": ("not offered",),
}
_COLOURS = ("#2a9d6f", "#e9c46a", "#f4a261", "#d1495b", "#d9d9d9")


def draw(results: Path, path: Path) -> Path:
    from matplotlib.figure import Figure

    endings = endings_of(load(results)["records"])
    figure = Figure(figsize=(8, 2.8), layout="constrained")
    axes = figure.subplots()
    for height, library in enumerate(reversed(LIBRARIES)):
        counts = Counter(found[library].name for found in endings.values() if library in found)
        left = 0
        for (part, names), colour in zip(_PARTS.items(), _COLOURS, strict=True):
            width = sum(counts[name] for name in names)
            label = part if height == 0 else None
            bar = axes.barh(height, width, left=left, color=colour, label=label)
            if width:
                axes.bar_label(bar, [str(width)], label_type="center", fontsize=9)
            left += width
    axes.set_yticks(range(len(LIBRARIES)), list(reversed(LIBRARIES)))
    axes.set_xlabel("fits")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(left=False)
    figure.legend(loc="outside upper center", ncols=len(_PARTS), fontsize=8, frameon=False)
    figure.savefig(path, dpi=150)
    return path
