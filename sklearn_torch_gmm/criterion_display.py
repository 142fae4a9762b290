"""Plots of the criteria of a search, in the style of scikit-learn's displays.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._private_parts import check_matplotlib_support
from sklearn_torch_gmm._selection.criteria import CRITERIA, Criterion

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self


class CriterionDisplay:
    """Plots of criteria against the number of components, a line for each covariance type.

    Use :meth:`from_estimator` to create a display. All parameters are stored as attributes.

    Parameters
    ----------
    n_components : ndarray of shape (n_sizes,)
        Numbers of components.
    values : dict of str to dict of str to ndarray of shape (n_sizes,)
        Values of each criterion for each covariance type at these numbers of components, NaN where
        they are unknown. The name of a criterion labels the vertical axis of its plot.
    best : tuple of (str, int)
        The covariance type and the number of components that were chosen.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes
        The axes of the plots, one for each criterion.
    ax_ : matplotlib Axes
        The first of these axes.
    figure_ : matplotlib Figure
        The figure of these axes.
    lines_ : list of list of matplotlib Line2D
        The lines of each plot, one for each covariance type.
    winners_ : list of matplotlib Line2D
        The mark of the chosen mixture in each plot.

    See Also
    --------
    GaussianMixtureIC : The search that is plotted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import CriterionDisplay, GaussianMixtureIC
    >>> X = load_iris().data
    >>> search = GaussianMixtureIC(1, 6, n_init=3, stability=True, random_state=0)
    >>> criteria = ["bic", "stability"]
    >>> display = CriterionDisplay.from_estimator(search.fit(X), criteria=criteria)
    >>> [line.get_label() for line in display.lines_[0]]
    ['full', 'tied', 'diag', 'spherical']
    >>> [ax.get_ylabel() for ax in display.axes_]
    ['BIC', 'stability']
    """

    def __init__(
        self,
        *,
        n_components: npt.NDArray[np.integer[Any]],
        values: Mapping[str, Mapping[str, npt.NDArray[np.floating[Any]]]],
        best: tuple[str, int],
    ) -> None:
        self.n_components = n_components
        self.values = values
        self.best = best

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        criteria: str | Sequence[str] | None = None,
        ax: Axes | Sequence[Axes] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
        winner_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Plot criteria of a fitted :class:`~sklearn_torch_gmm.GaussianMixtureIC`.

        Of several initializations, the one with the maximum likelihood is drawn.

        Parameters
        ----------
        estimator : GaussianMixtureIC
            A fitted search.
        criteria : str or sequence of str, default=None
            Criteria to draw side by side, by the names that the parameter `criterion` takes; None
            draws the criterion of the search. 'cv' and 'stability' need a search that computed
            them. The stability of a single component, which is always 1, is not drawn.
        ax : matplotlib Axes or sequence of them, default=None
            Axes to draw on, one for each criterion; None creates a new figure.
        line_kwargs, winner_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot`, for the lines and the mark.

        Returns
        -------
        display : CriterionDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is not a GaussianMixtureIC.
        ValueError
            If a criterion does not exist or was not computed, or the number of axes differs.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if not hasattr(estimator, "min_components"):
            msg = f"{cls.__name__} draws a GaussianMixtureIC, got a {type(estimator).__name__}."
            raise TypeError(msg)
        check_is_fitted(estimator)
        chosen = _names(estimator.criterion if criteria is None else criteria)
        results = estimator.results_
        display = cls(
            n_components=np.unique(results["n_components"]),
            values={CRITERIA[name].label: _lines(results, CRITERIA[name]) for name in chosen},
            best=(estimator.covariance_type_, estimator.n_components_),
        )
        return display.plot(ax=ax, line_kwargs=line_kwargs, winner_kwargs=winner_kwargs)

    def plot(
        self,
        *,
        ax: Axes | Sequence[Axes] | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
        winner_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plot again, on other axes or in another style.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of them, default=None
            Axes to draw on, one for each criterion; None creates a new figure.
        line_kwargs, winner_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot`, for the lines and the mark.

        Returns
        -------
        display : CriterionDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the number of axes is not the number of criteria.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm import CriterionDisplay
        >>> display = CriterionDisplay(
        ...     n_components=np.array([1, 2, 3]),
        ...     values={"BIC": {"full": np.array([5.0, 3.0, 4.0])}},
        ...     best=("full", 2),
        ... )
        >>> x, y = display.plot().winners_[0].get_data()
        >>> print(x[0], y[0])
        2 3.0
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        self.axes_ = drawing.axes_side_by_side(ax, len(self.values))
        self.lines_, self.winners_ = [], []
        kind, size = self.best
        place = list(self.n_components).index(size)
        for one, (label, lines) in zip(self.axes_, self.values.items(), strict=True):
            self.lines_.append(drawing.add_lines(one, self.n_components, lines, line_kwargs))
            mark = f"chosen: {kind}, {size}"
            self.winners_.append(
                drawing.add_star(one, size, lines[kind][place], mark, winner_kwargs)
            )
            one.set(xlabel="number of components", ylabel=label)
        drawing.add_legend(self.axes_[0], outside_axes=ax is None)
        self.ax_ = self.axes_[0]
        self.figure_ = self.ax_.figure
        return self


def _names(criteria: str | Sequence[str]) -> list[str]:
    """Return the names of criteria as a list, or raise ValueError."""
    are_several = isinstance(criteria, Iterable) and not isinstance(criteria, str)
    names: list[Any] = list(criteria) if are_several else [criteria]
    unknown = [name for name in names if name not in list(CRITERIA)]
    if unknown or not names:
        msg = f"criteria must be some of {list(CRITERIA)}, got {criteria!r}."
        raise ValueError(msg)
    return names


def _lines(
    results: Mapping[str, npt.NDArray[Any]], criterion: Criterion
) -> dict[str, npt.NDArray[np.float64]]:
    """Return the values of a criterion over the numbers of components, by covariance type."""
    sizes, values = np.unique(results["n_components"]), criterion.values(results)
    lines = {
        kind: np.full(len(sizes), np.nan) for kind in dict.fromkeys(results["covariance_type"])
    }
    for row in np.flatnonzero(results["is_kept"]):
        place = np.searchsorted(sizes, results["n_components"][row])
        lines[results["covariance_type"][row]][place] = values[row]
    return lines
