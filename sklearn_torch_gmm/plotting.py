"""Plots of a fitted mixture, in the style of scikit-learn's displays.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sklearn_torch_gmm._display_data import (
    DisplayData,
    as_array,
    check_in_memory,
    mixture_of,
    radii,
)
from sklearn_torch_gmm._private_parts import check_matplotlib_support
from sklearn_torch_gmm.core.counts import check_count
from sklearn_torch_gmm.mixture import GaussianMixture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self

_NATS_SHOWN = 10
"""Number of contours of the log-density, one for each nat below its maximum.

The lowest is at exp(-10), 5e-5 of the highest density; twice as many would add an empty margin.
"""


class MixtureDisplay:
    """Plot of two features of a Gaussian mixture: ellipses, labelled samples and density.

    Use :meth:`from_estimator` to create a display. All parameters are stored as attributes.

    Parameters
    ----------
    weights : ndarray of shape (K,)
        Component probabilities.
    means : ndarray of shape (K, 2)
        Means of the two features.
    covariances : ndarray of shape (K, 2, 2)
        Covariances of the two features.
    X : ndarray of shape (N, 2), default=None
        The two features of the samples to draw.
    labels : ndarray of shape (N,), default=None
        The component of each sample, which determines its colour.
    feature_names : pair of str, default=('feature 0', 'feature 1')
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of these axes.
    ellipses_ : list of list of matplotlib Ellipse
        The ellipses of each component, one for each level.
    scatter_ : matplotlib PathCollection or None
        The samples.
    contours_ : matplotlib QuadContourSet or None
        The density.

    See Also
    --------
    PairDisplay : Many pairs of features.
    ResponsibilityDisplay : The uncertainty of the labels.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import GaussianMixture, MixtureDisplay
    >>> X = load_iris().data
    >>> mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
    >>> display = MixtureDisplay.from_estimator(mixture, X, features=(2, 3))
    >>> len(display.ellipses_)
    3
    """

    def __init__(
        self,
        *,
        weights: npt.NDArray[Any],
        means: npt.NDArray[Any],
        covariances: npt.NDArray[Any],
        X: npt.NDArray[Any] | None = None,
        labels: npt.NDArray[Any] | None = None,
        feature_names: Sequence[str] = ("feature 0", "feature 1"),
    ) -> None:
        self.weights = weights
        self.means = means
        self.covariances = covariances
        self.X = X
        self.labels = labels
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any = None,
        features: Sequence[int | str] = (0, 1),
        ax: Axes | None = None,
        levels: Sequence[float] = (0.5, 0.9),
        *,
        density: bool = False,
        grid_resolution: int = 200,
        ellipse_kwargs: Mapping[str, Any] | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        contour_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw two features of a fitted mixture.

        If there are more than two, the plot shows the marginal distribution of the two. The colour
        of a sample is that of its most probable component given all of its features.

        Parameters
        ----------
        estimator : object
            A fitted mixture, one of this package's classes or :mod:`sklearn.mixture`'s, or a fitted
            search for one, such as :class:`~sklearn_torch_gmm.GaussianMixtureIC` or
            :class:`sklearn.model_selection.GridSearchCV`: its best mixture is drawn.
        X : array-like, DataFrame or Tensor of shape (N, D), default=None
            Samples to draw, with all features of the mixture, not only the two.
        features : pair of int or str, default=(0, 1)
            Features to draw, by position, or by name if the estimator was fitted to named columns.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.5, 0.9)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        density : bool, default=False
            Whether to draw contours of the mixture's log-density, one for each nat, down to ten
            nats below its highest value.
        grid_resolution : int, default=200
            Number of points along each axis at which the density is computed.
        ellipse_kwargs, scatter_kwargs, contour_kwargs : dict, default=None
            Passed to :class:`matplotlib.patches.Ellipse`, :meth:`matplotlib.axes.Axes.scatter`
            and :meth:`matplotlib.axes.Axes.contour`.

        Returns
        -------
        display : MixtureDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is neither a Gaussian mixture nor a search for one, or `X` is not in
            memory, as a ``DataLoader``.
        ValueError
            If a feature does not exist, a level is not between 0 and 1, or the grid is too coarse.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.mixture import GaussianMixture
        >>> from sklearn_torch_gmm import MixtureDisplay
        >>> X = load_iris(as_frame=True).data
        >>> mixture = GaussianMixture(3, random_state=0).fit(X)
        >>> petals = ("petal length (cm)", "petal width (cm)")
        >>> display = MixtureDisplay.from_estimator(mixture, X, features=petals)
        >>> display.ax_.get_xlabel()
        'petal length (cm)'
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        mixture = mixture_of(cls, estimator)
        check_in_memory(X)
        # The mixture validates the samples.
        labels = None if X is None else as_array(mixture.predict(X))
        data = DisplayData.of(mixture, X, features, most=2)
        display = cls(weights=mixture.weights_, labels=labels, **vars(data))
        return display.plot(
            ax,
            levels=levels,
            density=density,
            grid_resolution=grid_resolution,
            ellipse_kwargs=ellipse_kwargs,
            scatter_kwargs=scatter_kwargs,
            contour_kwargs=contour_kwargs,
        )

    def plot(
        self,
        ax: Axes | None = None,
        levels: Sequence[float] = (0.5, 0.9),
        *,
        density: bool = False,
        grid_resolution: int = 200,
        ellipse_kwargs: Mapping[str, Any] | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        contour_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plot again, on other axes or in another style.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.5, 0.9)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        density : bool, default=False
            Whether to draw contours of the log-density.
        grid_resolution : int, default=200
            Number of points along each axis at which the density is computed.
        ellipse_kwargs, scatter_kwargs, contour_kwargs : dict, default=None
            Passed to matplotlib, as by :meth:`from_estimator`.

        Returns
        -------
        display : MixtureDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a level is not between 0 and 1, or the grid is too coarse.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm import MixtureDisplay
        >>> display = MixtureDisplay(
        ...     weights=np.ones(1), means=np.zeros((1, 2)), covariances=np.eye(2)[None]
        ... )
        >>> ellipse = display.plot(levels=[0.5]).ellipses_[0][0]
        >>> print(f"{ellipse.width:.4f}")
        2.3548
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        distances = radii(levels)
        grid_resolution = check_count(grid_resolution, "grid_resolution", 2)
        ax = drawing.axes(ax)
        colours = drawing.colours(len(self.weights))
        self.scatter_ = None
        if self.X is not None:
            labelled = None if self.labels is None else [colours[label] for label in self.labels]
            self.scatter_ = drawing.add_points(ax, self.X, labelled, scatter_kwargs)
        self.ellipses_ = [
            [
                drawing.add_ellipse(ax, mean, covariance, radius, colour, ellipse_kwargs)
                for radius in distances
            ]
            for mean, covariance, colour in zip(self.means, self.covariances, colours, strict=True)
        ]
        ax.autoscale_view()
        self.contours_ = None
        if density:
            cmap = drawing.greys(ax)
            self.contours_ = self._add_contours(ax, grid_resolution, cmap, contour_kwargs)
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _add_contours(
        self, ax: Axes, resolution: int, cmap: str, kwargs: Mapping[str, Any] | None
    ) -> Any:
        limits = ax.get_xlim(), ax.get_ylim()
        x, y = np.meshgrid(*(np.linspace(low, high, resolution) for low, high in limits))
        marginal = GaussianMixture.from_parameters(self.weights, self.means, self.covariances)
        log_density = marginal.score_samples(np.stack([x.ravel(), y.ravel()], axis=1))
        nats = log_density.max() - np.arange(_NATS_SHOWN, 0, -1)
        colours = {} if "colors" in (kwargs or {}) else {"cmap": cmap}
        style = {"levels": nats, "alpha": 0.5, "linewidths": 0.7, **colours, **(kwargs or {})}
        return ax.contour(x, y, log_density.reshape(x.shape), **style)
