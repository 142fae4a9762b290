"""The interface of a covariance structure, independent of how the data arrive.

A structure is a stateless description: how a component's covariance is stored, which sufficient
statistics its maximum-likelihood estimate needs, and how a density is computed from it. The rest of
the package uses only this interface, so a new structure is one new file. Results for each component
always have the axis K, even if the components share one covariance.

Shapes: N samples, D features, K components, P moments, Q second-order moments, R restarts. ``...``
stands for any leading dimensions, in practice ``[R]`` or no dimension.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

LOG_2PI = math.log(2.0 * math.pi)

FEW_ROWS = 4.5
"""Weight of a component, in rows, below which its variances may consist only of rounding errors.

From five rows on, the excess that scikit-learn gives them is itself lost in rounding; with twice
the value, variances would be raised that scikit-learn leaves at zero.
"""


class CovarianceStructure(ABC):
    """A family of Gaussian covariances as an exponential family.

    With ``x`` a row relative to a fixed centre, the log-density of component ``k`` is
    ``η_k · (1, x, T₂(x))``, up to a term common to all components when
    :attr:`has_pooled_scatter` is true. T₂ is quadratic: T₂(a x) = a² T₂(x).
    """

    name: ClassVar[str]

    is_shared: ClassVar[bool] = False
    """Whether all components share one covariance."""

    has_pooled_scatter: ClassVar[bool] = False
    """Whether the estimate needs Σ x xᵀ ``[D, D]`` over all rows instead of Σ r T₂(x).

    Then T₂ is empty, and all components share one matrix. Its quadratic term, which cancels in the
    responsibilities, is not in the natural parameters but in :meth:`common_log_densities`. The
    scatter is the same in all iterations and computed once.
    """

    has_independent_features: ClassVar[bool] = False
    """Whether a component's features are independent; if not, covariances are ``[..., D, D]``."""

    # -- sizes ------------------------------------------------------------------------------------

    @abstractmethod
    def covariance_shape(self, num_components: int, num_features: int) -> tuple[int, ...]:
        """Shape of the covariances, of one axis at least, without leading dimensions."""

    @abstractmethod
    def num_covariance_parameters(self, num_components: int, num_features: int) -> int:
        """Number of free parameters in the covariances."""

    @abstractmethod
    def num_second_moments(self, num_features: int) -> int:
        """Q, the length of T₂(x)."""

    def num_moments(self, num_features: int) -> int:
        """P, the length of (x, T₂(x))."""
        return num_features + self.num_second_moments(num_features)

    # -- sufficient statistics --------------------------------------------------------------------

    @abstractmethod
    def write_second_moments(self, x: Tensor, out: Tensor) -> None:
        """Write T₂(x) ``[..., Q, n]`` of the rows ``x [..., D, n]`` into ``out``."""

    def complete_moments(self, moments: Tensor, num_features: int) -> None:
        """Write 1 and T₂(x) around the rows x that are already in ``moments [..., 1 + P, n]``."""
        moments[..., 0, :].fill_(1.0)
        x, second = moments[..., 1 : num_features + 1, :], moments[..., num_features + 1 :, :]
        self.write_second_moments(x, second)

    @abstractmethod
    def centred_second_moments(self, differences: Tensor, responsibilities: Tensor) -> Tensor:
        """Σ_n r T₂(x − μ_k), computed from the residuals x − μ_k themselves.

        For a component without responsibilities it may be NaN, since the square of a distance may
        overflow; a shared covariance must not become NaN.

        Parameters
        ----------
        differences : Tensor [..., K, D, n]
            Residuals.
        responsibilities : Tensor [..., K, n]
            Weights of any sign.

        Returns
        -------
        Tensor ``[..., K, Q]``, or the pooled scatter ``[..., D, D]``, summed over K.
        """

    def second_moments_of_scatter(self, scatter: Tensor) -> Tensor:
        """Σ T₂(x) for rows with the sums Σ x xᵀ, positive semidefinite ``[..., K, D, D]``.

        Returns
        -------
        Tensor ``[..., K, Q]``, or the pooled scatter ``[..., D, D]``, summed over K.
        """
        # T₂ is quadratic: D rows with the same sum of products have the same moments. Eigenvalues
        # are exact relative to the largest one, so each feature has its own unit.
        units = scatter.diagonal(dim1=-2, dim2=-1).clamp_min(0.0).sqrt().unsqueeze(-1)
        inverse = torch.where(units > 0.0, units.reciprocal(), 0.0)
        values, vectors = torch.linalg.eigh(inverse * scatter * inverse.mT)
        rows = units * vectors * values.clamp_min(0.0).sqrt().unsqueeze(-2)
        return self.centred_second_moments(rows, torch.ones_like(values))

    @abstractmethod
    def estimate(
        self, counts: Tensor, deviations: Tensor, second: Tensor, scatter: Tensor | None
    ) -> Tensor:
        """Maximum-likelihood covariances.

        Parameters
        ----------
        counts : Tensor [..., K]
            Σ r, the total weight of each component.
        deviations : Tensor [..., K, D]
            New means relative to the point about which the moments are taken.
        second : Tensor [..., K, Q]
            Σ r T₂(x) about that point.
        scatter : Tensor [..., D, D] or None
            Σ x xᵀ about that point, if pooled.
        """

    @abstractmethod
    def second_moments_of(self, covariances: Tensor, counts: Tensor, num_features: int) -> Tensor:
        """Second moments about the means for which :meth:`estimate` returns ``covariances``.

        Parameters
        ----------
        covariances : Tensor [..., *shape]
            Unregularized.
        counts : Tensor [..., K]
        num_features : int

        Returns
        -------
        Tensor ``[..., K, Q]``, or the pooled scatter ``[..., D, D]``, summed over K.
        """

    @abstractmethod
    def single_row_covariances(
        self, rows: Tensor, count: float, data_scatter: Tensor | None
    ) -> Tensor:
        """Unregularized covariances of components of one row each: zero up to rounding.

        With a small regularization, the rounding determines the iterations that follow. So it is
        that of scikit-learn's formulas, and both start from the same numbers.

        Parameters
        ----------
        rows : Tensor [K, D]
        count : float
            Weight of each component, in rows.
        data_scatter : Tensor [D, D] or None
            Σ x xᵀ over all rows of the data, if pooled.
        """

    # -- parameters -------------------------------------------------------------------------------

    def at_least_rounding(
        self,
        covariances: Tensor,
        means: Tensor,
        deviations: Tensor,
        counts: Tensor,
        spread: Tensor,
    ) -> Tensor:
        """Raise the variances of components of a few equal rows to scikit-learn's values.

        Parameters
        ----------
        covariances : Tensor [..., K, ...]
            Unregularized.
        means : Tensor [..., K, D]
        deviations : Tensor [..., K, D]
            Means minus the point about which the moments were taken.
        counts : Tensor [..., K]
            Total weight of each component.
        spread : Tensor [..., 1, D]
            Variances of the data.
        """
        return covariances

    @abstractmethod
    def regularize(self, covariances: Tensor, amount: float) -> Tensor:
        """Add ``amount`` once to each variance."""

    def along_components(self, values: Tensor, covariances: Tensor) -> Tensor:
        """Return ``[K]`` values in a shape that broadcasts to covariances ``[R, ...]``.

        Shared covariances, which have no axis for the components, require equal values.
        """
        if self.is_shared:
            return values[0]
        return values.view(-1, *[1] * (covariances.ndim - 2))

    @abstractmethod
    def precisions_cholesky(
        self, covariances: Tensor, num_components: int
    ) -> tuple[Tensor, Tensor]:
        """Upper-triangular ``U`` with ``U Uᵀ = Σ⁻¹`` and a mask ``[..., K]`` where there is one.

        The factor of a component outside the mask is meaningless.
        """

    @abstractmethod
    def precisions_cholesky_from_precisions(self, precisions: Tensor) -> Tensor:
        """Upper-triangular ``U`` with ``U Uᵀ`` equal to the positive-definite ``precisions``."""

    @abstractmethod
    def precisions(self, precisions_cholesky: Tensor) -> Tensor:
        """Σ⁻¹ in the shape of the covariances."""

    @abstractmethod
    def unit_covariances(self, like: Tensor) -> Tensor:
        """Covariances of standard normal components, in the shape and type of ``like``."""

    @abstractmethod
    def covariances(self, precisions_cholesky: Tensor) -> Tensor:
        """Σ in the shape of the covariances."""

    @abstractmethod
    def log_cholesky(self, precisions_cholesky: Tensor, scale: Tensor) -> Tensor:
        """Coordinates of the factors that may have any real value, in the shape of the factors.

        Diagonals are logarithms, and other entries refer to features in units of ``scale [R, D]``.
        """

    @abstractmethod
    def from_log_cholesky(self, coordinates: Tensor, scale: Tensor) -> Tensor:
        """Return the inverse of :meth:`log_cholesky`."""

    @abstractmethod
    def variances(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        """Diagonals ``[..., K, D]`` of the covariance matrices."""

    @abstractmethod
    def matrices(self, covariances: Tensor, num_components: int, num_features: int) -> Tensor:
        """Covariance matrices ``[..., K, D, D]`` of the components."""

    @abstractmethod
    def smallest_eigenvalues(self, covariances: Tensor, num_components: int) -> Tensor:
        """Smallest eigenvalue ``[..., K]`` of each covariance matrix."""

    @abstractmethod
    def fill_components(self, covariances: Tensor, chosen: Tensor, variances: Tensor) -> Tensor:
        """Give components ``chosen [..., K]`` nearly the ``variances [..., 1, D]``, if unshared."""

    # -- densities --------------------------------------------------------------------------------

    @abstractmethod
    def log_determinants(
        self, precisions_cholesky: Tensor, num_components: int, num_features: int
    ) -> Tensor:
        """Log |U| ``[..., K]``, half the log-determinant of the precision."""

    @abstractmethod
    def squared_distances(self, x: Tensor, means: Tensor, precisions_cholesky: Tensor) -> Tensor:
        """Squared Mahalanobis distances ``[..., K, n]`` of ``x [D, n]``, free of cancellation."""

    @abstractmethod
    def log_density_coefficients(
        self, constants: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        """Coefficients ``[..., K, 1 + P]`` of (1, x, T₂(x)) in c − ½ ‖Uᵀ(x − μ)‖².

        The ``constants`` are c ``[..., K]``. With a pooled scatter, −½ ‖Uᵀ x‖² is left out.
        """

    def distance_bounds(self, deviations: Tensor, precisions_cholesky: Tensor) -> Tensor:
        """‖ |Uᵀ| |x| ‖ ``[..., K]`` for ``deviations [..., K, D]`` x: a bound on ‖Uᵀ x‖.

        Infinity if a structure does not tell; components are then computed from residuals.
        """
        return deviations.new_full(deviations.shape[:-1], math.inf)

    @abstractmethod
    def transform_noise(self, noise: Tensor, labels: Tensor, covariances: Tensor) -> Tensor:
        """Scale standard normal ``noise [n, D]`` to the covariances of components ``labels``."""

    def joint_log_densities(
        self, x: Tensor, log_weights: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        """Log π_k + log N(x | μ_k, Σ_k) ``[..., K, n]`` of ``x [D, n]``, in nats."""
        sizes = _, num_features = means.shape[-2:]
        constants = log_weights + self.log_determinants(precisions_cholesky, *sizes)
        constants.sub_(0.5 * num_features * LOG_2PI)
        distances = self.squared_distances(x, means, precisions_cholesky)
        return torch.add(constants.unsqueeze(-1), distances, alpha=-0.5)

    def natural_parameters(
        self, log_weights: Tensor, means: Tensor, precisions_cholesky: Tensor
    ) -> Tensor:
        """η ``[..., K, 1 + P]``: the joint log-density is η · (1, x, T₂(x)).

        ``means`` are relative to the centre that is subtracted from the rows.
        """
        sizes = _, num_features = means.shape[-2:]
        constants = log_weights + self.log_determinants(precisions_cholesky, *sizes)
        constants.sub_(0.5 * num_features * LOG_2PI)
        return self.log_density_coefficients(constants, means, precisions_cholesky)

    def common_log_densities(self, x: Tensor, precisions_cholesky: Tensor) -> Tensor | float:
        """Term ``[..., 1, n]`` for ``x [..., D, n]`` that :meth:`natural_parameters` leaves out."""
        return 0.0

    def common_log_likelihood(self, precisions_cholesky: Tensor, scatter: Tensor) -> Tensor:
        """Sum ``[...]`` over the rows of the term that :meth:`natural_parameters` leaves out."""
        precisions = self.precisions(precisions_cholesky)
        return (precisions * scatter).sum((-2, -1)).mul_(-0.5)
