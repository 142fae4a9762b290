"""A plot of how certain the labels of a mixture are.

matplotlib is imported only when something is drawn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from sklearn_torch_gmm._display_data import (
    DisplayData,
    as_array,
    check_in_memory,
    mixture_of,
    radii,
)
from sklearn_torch_gmm._private_parts import check_matplotlib_support
from sklearn_torch_gmm.core.counts import is_number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from typing_extensions import Self


class ResponsibilityDisplay:
    """Plot of two features of samples, coloured by the uncertainty of their component.

    The uncertainty of a sample is 1 − max_k r_k, where the responsibility r_k is p(component k | x)
    given all of its features: 0 where one component is certain, 1 − 1/K where all K are equally
    probable. Use :meth:`from_estimator` to create a display. All parameters are stored as
    attributes.

    Parameters
    ----------
    X : ndarray of shape (N, 2)
        The two features of the samples.
    responsibilities : ndarray of shape (N, K)
        Probabilities of the components for each sample.
    means : ndarray of shape (K, 2)
        Means of the two features.
    covariances : ndarray of shape (K, 2, 2)
        Covariances of the two features.
    feature_names : pair of str, default=('feature 0', 'feature 1')
        Labels of the axes.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes of the plot.
    figure_ : matplotlib Figure
        The figure of these axes.
    scatter_ : matplotlib PathCollection
        The samples, the most uncertain on top.
    colorbar_ : matplotlib Colorbar
        The scale of the colours.
    ellipses_ : list of list of matplotlib Ellipse
        The ellipses of each component, one for each level.

    See Also
    --------
    MixtureDisplay : The same features, coloured by component.

    References
    ----------
    L. Scrucca, M. Fop, T. B. Murphy and A. E. Raftery, mclust 5: clustering, classification and
    density estimation using Gaussian finite mixture models, The R Journal 8 (2016), 289–317.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn_torch_gmm import GaussianMixture, ResponsibilityDisplay
    >>> X = load_iris().data
    >>> mixture = GaussianMixture(3, covariance_type="full", random_state=0).fit(X)
    >>> display = ResponsibilityDisplay.from_estimator(mixture, X, features=(2, 3))
    >>> display.colorbar_.ax.get_ylabel()
    'uncertainty'
    """

    def __init__(
        self,
        *,
        X: npt.NDArray[Any],
        responsibilities: npt.NDArray[Any],
        means: npt.NDArray[Any],
        covariances: npt.NDArray[Any],
        feature_names: Sequence[str] = ("feature 0", "feature 1"),
    ) -> None:
        self.X = X
        self.responsibilities = responsibilities
        self.means = means
        self.covariances = covariances
        self.feature_names = feature_names

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        features: Sequence[int | str] = (0, 1),
        ax: Axes | None = None,
        levels: Sequence[float] = (0.9,),
        *,
        component: int | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        ellipse_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the uncertainty of samples under a fitted mixture.

        Parameters
        ----------
        estimator : object
            A fitted mixture or search, as in :meth:`MixtureDisplay.from_estimator`.
        X : array-like, DataFrame or Tensor of shape (N, D)
            Samples to draw, with all features of the mixture, not only the two.
        features : pair of int or str, default=(0, 1)
            Features to draw, by position, or by name if the estimator was fitted to named columns.
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.9,)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        component : int, default=None
            Draws the responsibility of this component instead of the uncertainty.
        scatter_kwargs, ellipse_kwargs : dict, default=None
            Passed to :meth:`matplotlib.axes.Axes.scatter` and
            :class:`matplotlib.patches.Ellipse`.

        Returns
        -------
        display : ResponsibilityDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `estimator` is neither a Gaussian mixture nor a search for one, or `X` is not in
            memory, as a ``DataLoader``.
        ValueError
            If a feature or the component does not exist, or a level is not between 0 and 1.
        """
        check_matplotlib_support(f"{cls.__name__}.from_estimator")
        mixture = mixture_of(cls, estimator)
        check_in_memory(X)
        responsibilities = as_array(mixture.predict_proba(X))
        data = DisplayData.of(mixture, X, features, most=2)
        display = cls(responsibilities=responsibilities, **vars(data))
        return display.plot(
            ax,
            levels=levels,
            component=component,
            scatter_kwargs=scatter_kwargs,
            ellipse_kwargs=ellipse_kwargs,
        )

    def plot(
        self,
        ax: Axes | None = None,
        levels: Sequence[float] = (0.9,),
        *,
        component: int | None = None,
        scatter_kwargs: Mapping[str, Any] | None = None,
        ellipse_kwargs: Mapping[str, Any] | None = None,
    ) -> Self:
        """Draw the plot again, on other axes or in another style.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw on; None creates a new figure.
        levels : sequence of float, default=(0.9,)
            Shares of a component's probability that its ellipses enclose, between 0 and 1.
        component : int, default=None
            Draws the responsibility of this component instead of the uncertainty.
        scatter_kwargs, ellipse_kwargs : dict, default=None
            Passed to matplotlib, as by :meth:`from_estimator`.

        Returns
        -------
        display : ResponsibilityDisplay
            This object.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If the component does not exist, or a level is not between 0 and 1.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn_torch_gmm import ResponsibilityDisplay
        >>> display = ResponsibilityDisplay(
        ...     X=np.zeros((1, 2)),
        ...     responsibilities=np.array([[0.75, 0.25]]),
        ...     means=np.zeros((2, 2)),
        ...     covariances=np.stack([np.eye(2), 2 * np.eye(2)]),
        ... )
        >>> display.plot().scatter_.get_array().tolist()
        [0.25]
        """
        check_matplotlib_support(f"{type(self).__name__}.plot")
        # matplotlib is an optional dependency.
        from sklearn_torch_gmm import _drawing as drawing

        distances = radii(levels)
        values, name, largest = self._values(component)
        ax = drawing.axes(ax)
        self.ellipses_ = [
            [
                drawing.add_ellipse(
                    ax, mean, covariance, radius, drawing.foreground(ax), ellipse_kwargs
                )
                for radius in distances
            ]
            for mean, covariance in zip(self.means, self.covariances, strict=True)
        ]
        # Uncertain samples are few, and are drawn on top.
        order = values.argsort(kind="stable")
        self.scatter_, self.colorbar_ = drawing.add_scaled_points(
            ax, self.X[order], values[order], (0.0, largest), name, scatter_kwargs
        )
        ax.autoscale_view()
        ax.set(xlabel=self.feature_names[0], ylabel=self.feature_names[1])
        self.ax_ = ax
        self.figure_ = ax.figure
        return self

    def _values(self, component: int | None) -> tuple[npt.NDArray[Any], str, float]:
        """Return the values to draw, their name, and the largest possible value."""
        num_components = self.responsibilities.shape[1]
        if component is None:
            # One component is always certain, and a scale needs two ends.
            largest = 1.0 - 1.0 / max(num_components, 2)
            return 1.0 - self.responsibilities.max(1), "uncertainty", largest
        if not is_number(component, Integral) or not 0 <= component < num_components:
            msg = f"component must be one of 0 to {num_components - 1}, got {component!r}."
            raise ValueError(msg)
        return self.responsibilities[:, component], f"responsibility of component {component}", 1.0
