"""Drawing for the displays: the only module that imports matplotlib, which is optional."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.cbook import normalize_kwargs
from matplotlib.collections import PathCollection
from matplotlib.colorbar import Colorbar
from matplotlib.colors import LinearSegmentedColormap, to_rgba
from matplotlib.lines import Line2D
from matplotlib.patches import Ellipse
from matplotlib.ticker import MaxNLocator

Style = Mapping[str, Any] | None

INCHES_OF_A_PAIR = 2.0
"""Side of a plot of one pair: wide enough for three ticks."""

READABLE_MAP = LinearSegmentedColormap.from_list("readable", ["#5b8fd6", "#c565a5", "#e8552d"])
"""Blue to red, with a contrast of at least 3 throughout to a white and to a black background, on
which one end of matplotlib's own maps is invisible."""

MOST_INCHES = 16.0
"""Maximum side of a figure of pairs, the width of a screen."""


def axes(ax: Any) -> Axes:
    """Return the given axes, or the axes of a new figure; TypeError for anything but an Axes."""
    if ax is None:
        return plt.subplots(layout="constrained")[1]
    _check_axes([ax], "be an")
    return ax


def axes_side_by_side(given: Axes | Sequence[Axes] | None, number: int) -> npt.NDArray[Any]:
    """Return the given axes, or the axes of a new figure, as an array of shape ``(number,)``."""
    if given is None:
        width, height = mpl.rcParams["figure.figsize"]
        size = (width * max(1.0, 0.75 * number), height)
        _, made = plt.subplots(1, number, squeeze=False, figsize=size, layout="constrained")
        return np.asarray(made[0])
    found = np.atleast_1d(np.asarray(given, dtype=object)).ravel()
    if len(found) != number:
        msg = f"ax must hold an Axes for each of the {number} criteria, got {len(found)}."
        raise ValueError(msg)
    _check_axes(found.flat, "hold")
    return found


def square_of_axes(given: Any, size: int) -> npt.NDArray[Any]:
    """Return the given axes, or the axes of a new figure, as an array of shape ``(size, size)``."""
    if given is None:
        inches = min(INCHES_OF_A_PAIR * size, MOST_INCHES)
        _, given = plt.subplots(
            size, size, squeeze=False, figsize=(inches, inches), layout="constrained"
        )
    found = np.asarray(given, dtype=object)
    if found.shape != (size, size):
        msg = f"ax must be an array of Axes of shape ({size}, {size}), got {found.shape}."
        raise ValueError(msg)
    _check_axes(found.flat, "hold")
    return found


def _check_axes(found: Iterable[Any], verb: str) -> None:
    for one in found:
        if not isinstance(one, mpl.axes.Axes):
            msg = f"ax must {verb} Axes of matplotlib, got a {type(one).__name__}."
            raise TypeError(msg)


def add_legend(ax: Axes, *, outside_axes: bool) -> None:
    """Add a legend to ``ax``, or with ``outside_axes`` to its figure, to the right of all axes."""
    if outside_axes:
        ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside right upper")
    else:
        ax.legend()


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
    ax: Axes, x: npt.NDArray[Any], lines: Mapping[Any, npt.NDArray[Any]], style: Style
) -> list[Line2D]:
    """Draw labelled lines over integers ``x``."""
    given = _with_full_names(style, Line2D)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return [
        ax.plot(x, values, **{"marker": ".", "label": name, **given})[0]
        for name, values in lines.items()
    ]


def add_scaled_points(
    ax: Axes,
    points: npt.NDArray[Any],
    values: npt.NDArray[Any],
    limits: tuple[float, float],
    name: str,
    style: Style,
) -> tuple[PathCollection, Colorbar]:
    """Draw ``points`` ``[N, 2]`` in the colours of ``values`` ``[N]``, and the scale of colours."""
    given = _with_full_names(style, PathCollection)
    single = {"color", "facecolor"} & given.keys()
    if single:
        msg = (
            f"The colours of the samples show their values: leave out {single.pop()!r}, or choose "
            "a scale with 'cmap'."
        )
        raise ValueError(msg)
    shown = {"s": 12, "linewidth": 0, "c": values, "cmap": READABLE_MAP, **given}
    if "norm" not in shown:
        shown = {"vmin": limits[0], "vmax": limits[1], **shown}
    scatter = ax.scatter(points[:, 0], points[:, 1], **shown)
    return scatter, ax.figure.colorbar(scatter, ax=ax, label=name)


def add_end(ax: Axes, x: float, y: float, colour: Any, *, is_filled: bool) -> Line2D:
    """Mark the last point of a line, with a cross unless ``is_filled``."""
    marker, size = ("o", 7) if is_filled else ("x", 9)
    return ax.plot([x], [y], marker=marker, markersize=size, color=colour, linestyle="none")[0]


def add_histogram(ax: Axes, values: npt.NDArray[Any], style: Style) -> None:
    """Draw the density of samples as bars in the background."""
    shown = {"bins": "auto", "density": True, "color": "gray", "alpha": 0.35, **(style or {})}
    ax.hist(values, **shown)


def add_densities(ax: Axes, x: npt.NDArray[Any], densities: npt.NDArray[Any]) -> list[Line2D]:
    """Draw the densities ``[K, points]`` of components, then their sum, without a scale."""
    shades = colours(len(densities))
    lines = [
        ax.plot(x, own, color=colour)[0] for own, colour in zip(densities, shades, strict=True)
    ]
    ax.set_yticks([])
    total = ax.plot(x, densities.sum(0), color=foreground(ax), linewidth=1.0, linestyle="--")
    return [*lines, *total]


def add_star(ax: Axes, x: float, y: float, label: str, style: Style) -> Line2D:
    """Mark a point with a star."""
    mark = {
        "marker": "*", "markersize": 14, "color": foreground(ax), "linestyle": "none",
        "markeredgecolor": ax.get_facecolor(), "zorder": 3, "label": label,
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


def foreground(ax: Axes) -> str:
    """Return black for a light background, white for a dark one."""
    return "white" if _is_dark(ax) else "black"


def greys(ax: Axes) -> str:
    """Return the map whose largest values differ most from the background."""
    return "Greys_r" if _is_dark(ax) else "Greys"


def _is_dark(ax: Axes) -> bool:
    red, green, blue, _ = to_rgba(ax.get_facecolor())
    # The luminance of Rec. 709, without its gamma.
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue < 0.5


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
