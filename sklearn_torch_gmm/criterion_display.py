"""A plot of the criterion by which a search chose, in the style of scikit-learn's displays.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_is_fitted

from sklearn_torch_gmm._private_parts import check_matplotlib_support
from sklearn_torch_gmm._selection.results import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self


class CriterionDisplay:
    """Plot of a criterion against the number of components, a line for each covariance type.

    Use :meth:`from_estimator` to create a display. All parameters are stored as attributes.

    Parameters
    ----------
    n_components : ndarray of shape (n_sizes,)
        Numbers of components.
    values : dict of str to ndarray of shape (n_sizes,)
        The criterion of each covariance type at these numbers, NaN if a fit failed. Smaller is
        better.
    best : tuple of (str, int)
        The covariance type and the number of components that were chosen.
    criterion_name : str, default='criterion'
        Label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of these axes.
    lines_ : list of matplotlib Line2D
        A line for each covariance type.
    winner_ : matplotlib Line2D
        The mark of the chosen mixture.

    See Also
    --------
    GaussianMixtureIC : The search that is plotted.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import CriterionDisplay, GaussianMixtureIC
    >>> X = load_iris().data
    >>> search = GaussianMixtureIC(1, 6, n_init=3, random_state=0).fit(X)
    >>> display = CriterionDisplay.from_estimator(search)
    >>> [line.get_label() for line in display.lines_]
    ['full', 'tied', 'diag', 'spherical']
    """

    def __init__(
        self,
        *,
        n_components: npt.NDArray[np.integer[Any]],
        values: Mapping[str, npt.NDArray[np.floating[Any]]],
        best: tuple[str, int],
        criterion_name: str = "criterion",
    ) -> None:
        self.n_components = n_components
        self.values = values
        self.best = best
        self.criterion_name = criterion_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        *,
        ax: Axes | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
        winner_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Plot the criterion of a fitted :class:`~sklearn_torch_gmm.GaussianMixtureIC`.

        Of several initializations, the one with the maximum likelihood is drawn.

        Parameters
        ----------
        estimator : GaussianMixtureIC
            A fitted search.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
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
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        if not hasattr(estimator, "min_components"):
            msg = f"{cls.__name__} draws a GaussianMixtureIC, got a {type(estimator).__name__}."
            raise TypeError(msg)
        check_is_fitted(estimator)
        results = estimator.results_
        values, name = values_of(results, estimator.criterion)
        sizes = np.unique(results["n_components"])
        lines = {
            kind: np.full(len(sizes), np.nan) for kind in dict.fromkeys(results["covariance_type"])
        }
        for row in np.flatnonzero(results["is_kept"]):
            place = np.searchsorted(sizes, results["n_components"][row])
            lines[results["covariance_type"][row]][place] = values[row]
        display = cls(
            n_components=sizes,
            values=lines,
            best=(estimator.covariance_type_, estimator.n_components_),
            criterion_name=name,
        )
        return display.plot(ax=ax, line_kwargs=line_kwargs, winner_kwargs=winner_kwargs)

    def plot(
        self,
        *,
        ax: Axes | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
        winner_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plot again, on other axes or in another style.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
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

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm import CriterionDisplay
        >>> display = CriterionDisplay(
        ...     n_components=np.array([1, 2, 3]),
        ...     values={"full": np.array([5.0, 3.0, 4.0])},
        ...     best=("full", 2),
        ... )
        >>> x, y = display.plot().winner_.get_data()
        >>> print(x[0], y[0])
        2 3.0
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        ax = drawing.axes(ax)
        self.lines_ = drawing.add_lines(ax, self.n_components, self.values, line_kwargs)
        kind, size = self.best
        value = self.values[kind][list(self.n_components).index(size)]
        self.winner_ = drawing.add_star(ax, size, value, f"{kind}, {size}", winner_kwargs)
        ax.set(xlabel="number of components", ylabel=self.criterion_name)
        ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self
