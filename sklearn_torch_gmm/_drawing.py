"""Drawing for the displays: the only module that imports matplotlib, which is optional."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import PathCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

Style = Mapping[str, Any] | None


def axes(ax: Axes | None) -> Axes:
    """Return the given axes, or the axes of a new figure."""
    return plt.subplots()[1] if ax is None else ax


def add_points(
    ax: Axes, points: npt.NDArray[Any], colours: Sequence[Any] | None, style: Style
) -> PathCollection:
    """Draw ``points`` ``[N, 2]`` in their colours, unless the style sets one for all."""
    given = _with_full_names(style, PathCollection)
    has_colour = colours is None or "color" in given or "facecolor" in given
    own = {} if has_colour else {"c": colours}
    style = {"s": 12, "alpha": 0.6, "linewidth": 0, **own, **given}
    return ax.scatter(points[:, 0], points[:, 1], **style)


def add_lines(
    ax: Axes, x: npt.NDArray[Any], lines: Mapping[str, npt.NDArray[Any]], style: Style
) -> list[Line2D]:
    """Draw labelled lines over integers ``x``."""
    given = _with_full_names(style, Line2D)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return [
        ax.plot(x, values, **{"marker": ".", "label": name, **given})[0]
        for name, values in lines.items()
    ]


def add_star(ax: Axes, x: float, y: float, label: str, style: Style) -> Line2D:
    """Mark a point with a star."""
    mark = {
        "marker": "*", "markersize": 14, "color": "black", "linestyle": "none", "label": label,
        **_with_full_names(style, Line2D),
    }  # fmt: skip
    return ax.plot([x], [y], **mark)[0]


def add_ellipse(
    ax: Axes,
    mean: npt.NDArray[Any],
    covariance: npt.NDArray[Any],
    radius: float,
    colour: Any,
    style: Style,
) -> Ellipse:
    """Draw the ellipse of points at a Mahalanobis distance of ``radius``."""
    # A zero eigenvalue may be rounded to a negative number.
    variances, directions = np.linalg.eigh(covariance)
    short, long = 2.0 * radius * np.sqrt(variances.clip(min=0.0))
    angle = math.degrees(math.atan2(directions[1, 1], directions[0, 1]))
    given = _with_full_names(style, Ellipse)
    style = {"fill": False, "edgecolor": colour, "linewidth": 1.5, **given}
    if "color" in given:
        del style["edgecolor"]
    ellipse = Ellipse(tuple(mean), width=long, height=short, angle=angle, **style)
    ax.add_patch(ellipse)
    return ellipse


def colours(number: int) -> list[Any]:
    """Return a colour for each component, from matplotlib's colour cycle if it is long enough."""
    cycle = mpl.rcParams["axes.prop_cycle"].by_key().get("color", ["black"])
    if number <= len(cycle):
        return list(cycle[:number])
    # The ends of the map are nearly black; a margin twice as wide would lose some of its contrast.
    return list(mpl.colormaps["turbo"](np.linspace(0.02, 0.98, number)))


def _with_full_names(style: Style, artist: type) -> dict[str, Any]:
    """Return keyword arguments with abbreviations replaced: ``lw`` by ``linewidth``."""
    return normalize_kwargs(dict(style or {}), artist)
