"""A plot of the log-likelihood at each iteration of EM.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm._display_data import mixture_of
from sklearn_torch_gmm._private_parts import check_matplotlib_support

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self


class ConvergenceDisplay:
    """Plot of the log-likelihood at each iteration of a fit.

    The last iteration has a filled mark if the fit converged, a cross otherwise. Use
    :meth:`from_estimator` to create a display. All parameters are stored as attributes.

    Parameters
    ----------
    lower_bounds : array-like of shape (n_iter,)
        The mean log-likelihood in nats per sample at each iteration, or another bound.
    converged : bool
        Whether the last change fell below the tolerance.
    bound_name : str, default='mean log-likelihood'
        Label of the vertical axis.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of these axes.
    line_ : matplotlib Line2D
        The trace.
    end_ : matplotlib Line2D
        The mark of the last iteration.

    See Also
    --------
    sklearn_torch_gmm.GaussianMixture : The attribute `lower_bounds_` holds the trace.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import ConvergenceDisplay, GaussianMixture
    >>> X = load_iris().data
    >>> mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
    >>> display = ConvergenceDisplay.from_estimator(mixture)
    >>> len(display.line_.get_xdata()) == mixture.num_iter_
    True
    """

    def __init__(
        self,
        *,
        lower_bounds: npt.ArrayLike,
        converged: bool,
        bound_name: str = "mean log-likelihood",
    ) -> None:
        self.lower_bounds = lower_bounds
        self.converged = converged
        self.bound_name = bound_name

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the log-likelihood of the best initialization of a fitted mixture.

        Parameters
        ----------
        estimator : object
            A fitted mixture or search, as in :meth:`MixtureDisplay.from_estimator`.
        ax : matplotlib Axes, default=None
            Axes to draw on, such as the axes of a fit to compare with; None creates a new figure.
        name : str, default=None
            Name of the fit in the legend; None draws no legend.
        line_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : ConvergenceDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is neither a Gaussian mixture nor a search for one.
        ValueError
            If the mixture has no iterations, as after ``partial_fit`` or ``from_parameters``.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        mixture = mixture_of(cls, estimator)
        bounds = getattr(mixture, "lower_bounds_", ())
        if len(bounds) == 0:
            msg = (
                f"This {type(mixture).__name__} has no iterations in lower_bounds_: only `fit` "
                "records them."
            )
            raise ValueError(msg)
        is_variational = hasattr(mixture, "weight_concentration_prior")
        bound_name = "evidence lower bound" if is_variational else "mean log-likelihood"
        display = cls(
            lower_bounds=bounds, converged=bool(mixture.converged_), bound_name=bound_name
        )
        return display.plot(ax, name=name, line_kwargs=line_kwargs)

    def plot(
        self,
        ax: Axes | None = None,
        *,
        name: str | None = None,
        line_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plot again, on other axes or in another style.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        name : str, default=None
            Name of the fit in the legend; None draws no legend.
        line_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.plot`.

        Returns
        -------
        display : ConvergenceDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.

        Examples
        --------
        >>> from sklearn_torch_gmm import ConvergenceDisplay
        >>> display = ConvergenceDisplay(lower_bounds=[-3, -2.5, -2.4], converged=True)
        >>> display.plot().line_.get_xdata().tolist()
        [1, 2, 3]
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        ax = drawing.axes(ax)
        bounds = np.asarray(self.lower_bounds)
        iterations = np.arange(1, len(bounds) + 1)
        (self.line_,) = drawing.add_lines(ax, iterations, {name: bounds}, line_kwargs)
        colour = self.line_.get_color()
        self.end_ = drawing.add_end(
            ax, iterations[-1], bounds[-1], colour, is_filled=self.converged
        )
        ax.set(xlabel="iteration", ylabel=f"{self.bound_name} (nats)")
        if name is not None:
            ax.legend()
        self.ax_ = ax
        self.figure_ = ax.figure
        return self
