"""A plot of several features of a mixture against each other.

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
from sklearn_torch_gmm.plotting import MixtureDisplay

if TYPE_CHECKING:
    from typing_extensions import Self

MOST_FEATURES = 10
"""Maximum number of features on a page; twice as many take four times as long, a minute."""

_POINTS_OF_A_CURVE = 200
"""Twice as many would not be visible in a plot of about 200 pixels."""

_MARGIN = 0.05
"""Fraction of the range of a feature that is left empty on each side, as in matplotlib."""


class PairDisplay:
    """Plots of the features of a Gaussian mixture against each other.

    Each plot below the diagonal shows the ellipses and samples of two features, as
    :class:`MixtureDisplay` draws them. A plot on the diagonal shows the density of one feature, by
    component and in total, and a histogram of the samples. Use :meth:`from_estimator` to create a
    display. All parameters are stored as attributes.

    Parameters
    ----------
    weights : ndarray of shape (K,)
        Component probabilities.
    means : ndarray of shape (K, F)
        Means of the features.
    covariances : ndarray of shape (K, F, F)
        Covariances of the features.
    X : ndarray of shape (N, F), default=None
        The features of the samples to draw.
    labels : ndarray of shape (N,), default=None
        The component of each sample, which determines its colour.
    feature_names : sequence of str, default=None
        Labels of the axes; None numbers them.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (F, F)
        The axes of the plots; those above the diagonal are invisible.
    ax_ : matplotlib Axes
        The first of these axes.
    figure_ : matplotlib Figure
        The figure of these axes.
    displays_ : dict of (int, int) to MixtureDisplay
        The plots below the diagonal, by row and column.
    curves_ : list of list of matplotlib Line2D
        The densities of each feature: of the components, times their weights, and of the mixture.

    See Also
    --------
    MixtureDisplay : A plot of two features.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import GaussianMixture, PairDisplay
    >>> X = load_iris().data
    >>> mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
    >>> display = PairDisplay.from_estimator(mixture, X, features=(0, 2, 3))
    >>> sorted(display.displays_)
    [(1, 0), (2, 0), (2, 1)]
    """

    def __init__(
        self,
        *,
        weights: npt.NDArray[Any],
        means: npt.NDArray[Any],
        covariances: npt.NDArray[Any],
        X: npt.NDArray[Any] | None = None,
        labels: npt.NDArray[Any] | None = None,
        feature_names: Sequence[str] | None = None,
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
        features: Sequence[int | str] | None = None,
        ax: npt.NDArray[Any] | None = None,
        levels: Sequence[float] = (0.5, 0.9),
        *,
        ellipse_kwargs: Mapping[str, Any] | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        hist_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw features of a fitted mixture against each other.

        Parameters
        ----------
        estimator : object
            A fitted mixture or search, as in :meth:`MixtureDisplay.from_estimator`.
        X : array-like, DataFrame or Tensor of shape (N, D), default=None
            Samples to draw, with all features of the mixture.
        features : sequence of int or str, default=None
            Two to ten features, by position, or by name if the estimator was fitted to named
            columns; None draws all.
        ax : array of matplotlib Axes, shape (F, F), default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.5, 0.9)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        ellipse_kwargs, scatter_kwargs, hist_kwargs : dict, default=None
            Passed to :class:`matplotlib.patches.Ellipse`, :meth:`matplotlib.axes.Axes.scatter`
            and :meth:`matplotlib.axes.Axes.hist`.

        Returns
        -------
        display : PairDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is neither a Gaussian mixture nor a search for one, or `X` is not in
            memory, as a ``DataLoader``.
        ValueError
            If a feature does not exist, if there are more than ten, or if a level is not between 0
            and 1.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        mixture = mixture_of(cls, estimator)
        check_in_memory(X)
        # The mixture validates the samples.
        labels = None if X is None else as_array(mixture.predict(X))
        data = DisplayData.of(mixture, X, features, most=MOST_FEATURES)
        display = cls(weights=mixture.weights_, labels=labels, **vars(data))
        return display.plot(
            ax,
            levels=levels,
            ellipse_kwargs=ellipse_kwargs,
            scatter_kwargs=scatter_kwargs,
            hist_kwargs=hist_kwargs,
        )

    def plot(
        self,
        ax: npt.NDArray[Any] | None = None,
        levels: Sequence[float] = (0.5, 0.9),
        *,
        ellipse_kwargs: Mapping[str, Any] | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        hist_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plots again, on other axes or in another style.

        Parameters
        ----------
        ax : array of matplotlib Axes, shape (F, F), default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.5, 0.9)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        ellipse_kwargs, scatter_kwargs, hist_kwargs : dict, default=None
            Passed to matplotlib, as by :meth:`from_estimator`.

        Returns
        -------
        display : PairDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If a level is not between 0 and 1, or the shape of `ax` is not (F, F).

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm import PairDisplay
        >>> display = PairDisplay(
        ...     weights=np.ones(1), means=np.zeros((1, 2)), covariances=np.eye(2)[None]
        ... )
        >>> x, density = display.plot().curves_[0][-1].get_data()
        >>> print(f"{density.max():.2f}")
        0.40
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        num_features = self.means.shape[1]
        names = self.feature_names
        if names is None:
            names = [f"feature {i}" for i in range(num_features)]
        limits = self._limits(max(radii(levels), default=1.0))
        self.axes_ = drawing.square_of_axes(ax, num_features)
        self.displays_: dict[tuple[int, int], MixtureDisplay] = {}
        self.curves_ = []
        for row, column in np.ndindex(self.axes_.shape):
            one: Any = self.axes_[row, column]
            if row < column:
                one.set_visible(False)
                continue
            if row == column:
                if self.X is not None:
                    values = self.X[:, row]
                    known = values[~np.isnan(values)]
                    if len(known) > 0:
                        drawing.add_histogram(one, known, hist_kwargs)
                x = np.linspace(*limits[row], _POINTS_OF_A_CURVE)
                self.curves_.append(drawing.add_densities(one, x, self._densities(row, x)))
            else:
                self.displays_[row, column] = self._pair(row, column).plot(
                    one,
                    levels=levels,
                    ellipse_kwargs=ellipse_kwargs,
                    scatter_kwargs=scatter_kwargs,
                )
                one.set_ylim(limits[row])
            one.set_xlim(limits[column])
            is_last, is_first = row == num_features - 1, column == 0
            one.set(xlabel=names[column] if is_last else "", ylabel=names[row] if is_first else "")
            one.tick_params(labelbottom=is_last, labelleft=is_first and row > 0)
        self.ax_ = self.axes_[0, 0]
        self.figure_ = self.ax_.figure
        return self

    def _limits(self, radius: float) -> list[tuple[float, float]]:
        """Return the range of each feature that holds the ellipses and samples, with a margin."""
        deviations = np.sqrt(np.diagonal(self.covariances, axis1=1, axis2=2))
        ends = [self.means - radius * deviations, self.means + radius * deviations]
        values = np.concatenate(ends if self.X is None else [*ends, self.X])
        low, high = np.nanmin(values, axis=0), np.nanmax(values, axis=0)
        margin = _MARGIN * (high - low)
        return list(zip(low - margin, high + margin, strict=True))

    def _pair(self, row: int, column: int) -> MixtureDisplay:
        chosen = [column, row]
        return MixtureDisplay(
            weights=self.weights,
            means=self.means[:, chosen],
            covariances=self.covariances[:, chosen][:, :, chosen],
            X=None if self.X is None else self.X[:, chosen],
            labels=self.labels,
        )

    def _densities(self, feature: int, x: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the weighted densities ``[K, points]`` of components at values of a feature."""
        means, variances = self.means[:, feature, None], self.covariances[:, feature, feature, None]
        densities = np.exp(-0.5 * (x - means) ** 2 / variances) / np.sqrt(2 * np.pi * variances)
        weighted: npt.NDArray[Any] = self.weights[:, None] * densities
        return weighted
