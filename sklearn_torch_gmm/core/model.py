"""A Gaussian mixture as a torch module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from sklearn_torch_gmm.core.counts import check_count
from sklearn_torch_gmm.core.covariance import CovarianceStructure, CovarianceType, get_structure
from sklearn_torch_gmm.core.files import replace_file
from sklearn_torch_gmm.core.processes import expect_forks
from sklearn_torch_gmm.core.serialization import dump_tensors, read_tensors

if TYPE_CHECKING:
    from typing_extensions import Self

MODEL_FILE = "model.safetensors"
"""Name of the file in the directory of a saved estimator."""


@dataclass(frozen=True)
class GaussianMixtureModelConfig:
    """The configuration of a :class:`~sklearn_torch_gmm.GaussianMixtureModel`.

    Parameters
    ----------
    num_components : int
        K, the number of Gaussian components.
    num_features : int
        D, the number of features of a sample.
    covariance_type : {'full', 'tied', 'diag', 'spherical'}, default='diag'
        The structure of the components' covariances.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixtureModelConfig
    >>> config = GaussianMixtureModelConfig(num_components=3, num_features=2)
    >>> config.covariance_type
    'diag'
    """

    num_components: int
    num_features: int
    covariance_type: CovarianceType = "diag"

    def __post_init__(self) -> None:
        for name in ("num_components", "num_features"):
            # As ints, since NumPy's integers cannot be written to JSON.
            object.__setattr__(self, name, check_count(getattr(self, name), name))
        get_structure(self.covariance_type)


class GaussianMixtureModel(nn.Module):
    """A mixture of Gaussians whose parameters are buffers.

    The module is differentiable with respect to the data. It has no trainable parameters, since
    expectation–maximization does not use gradients.

    Parameters
    ----------
    config : GaussianMixtureModelConfig
        The sizes and the covariance type of the model.
    dtype : torch.dtype, default=torch.float64
        Floating-point type of the buffers.

    Attributes
    ----------
    component_probs : Tensor [K]
        Probability of each component.
    means : Tensor [K, D]
        Mean of each component.
    precisions_cholesky : Tensor
        Upper-triangular factors U of the precision matrices U Uᵀ; for 'diag' and 'spherical' the
        square roots of the precisions. Shape ``[K, D, D]`` ('full'), ``[D, D]`` ('tied'),
        ``[K, D]`` ('diag') or ``[K]`` ('spherical').

    Examples
    --------
    >>> import torch
    >>> import sklearn_torch_gmm as gmm
    >>> config = gmm.GaussianMixtureModelConfig(2, 1)
    >>> model = gmm.GaussianMixtureModel(config)
    >>> model.means.copy_(torch.tensor([[-2.0], [2.0]]))
    tensor([[-2.],
            [ 2.]], dtype=torch.float64)
    >>> X = torch.tensor([[2.0]], dtype=torch.float64)
    >>> log_responsibilities, log_prob = model(X)
    >>> log_responsibilities.argmax(1)
    tensor([1])
    >>> model.forward(torch.zeros(3, 1))[1].shape
    torch.Size([3])
    >>> model.joint_log_densities(torch.zeros(3, 1)).shape
    torch.Size([2, 3])
    >>> model.sample(3).shape, model.covariances.shape, model.structure.name
    (torch.Size([3, 1]), torch.Size([2, 1]), 'diag')
    >>> model.reset_parameters()
    >>> model.extra_repr()
    "num_components=2, num_features=1, covariance_type='diag'"
    """

    component_probs: Tensor
    means: Tensor
    precisions_cholesky: Tensor

    def __init__(
        self, config: GaussianMixtureModelConfig, *, dtype: torch.dtype = torch.float64
    ) -> None:
        super().__init__()
        expect_forks()
        if not isinstance(config, GaussianMixtureModelConfig):
            msg = (  # type: ignore[unreachable]  # for callers without a type checker
                f"config must be a GaussianMixtureModelConfig, got {config!r}: "
                "GaussianMixtureModelConfig(num_components, num_features) creates one."
            )
            raise TypeError(msg)
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            msg = f"dtype must be a floating-point type of torch, got {dtype!r}."
            raise ValueError(msg)
        self.config = config
        shape = self.structure.covariance_shape(config.num_components, config.num_features)
        self.register_buffer("component_probs", torch.empty(config.num_components, dtype=dtype))
        self.register_buffer(
            "means", torch.empty(config.num_components, config.num_features, dtype=dtype)
        )
        self.register_buffer("precisions_cholesky", torch.empty(shape, dtype=dtype))
        self.reset_parameters()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        expect_forks()

    @property
    def structure(self) -> CovarianceStructure:
        """The covariance structure named in the configuration."""
        return get_structure(self.config.covariance_type)

    def extra_repr(self) -> str:
        """Return the configuration, which torch shows in the module's representation.

        Returns
        -------
        sizes : str
        """
        return ", ".join(f"{name}={value!r}" for name, value in asdict(self.config).items())

    def reset_parameters(self) -> None:
        """Set all components to the standard normal distribution, with equal weights."""
        with torch.no_grad():
            self.component_probs.fill_(1.0 / self.config.num_components)
            self.means.zero_()
            unit = self.structure.unit_covariances(self.precisions_cholesky)
            self.precisions_cholesky.copy_(unit)

    @property
    def covariances(self) -> Tensor:
        """Covariances in the shape of `precisions_cholesky`."""
        return self._wide_covariances().to(self.precisions_cholesky.dtype)

    def _wide_covariances(self) -> Tensor:
        # LAPACK does not support types narrower than float32.
        dtype = torch.promote_types(self.precisions_cholesky.dtype, torch.float32)
        return self.structure.covariances(self.precisions_cholesky.to(dtype))

    def joint_log_densities(self, data: Tensor) -> Tensor:
        """Return log π_k + log N(x | μ_k, Σ_k) for each sample and component.

        Parameters
        ----------
        data : Tensor [N, D]
            Samples.

        Returns
        -------
        Tensor [K, N]
            In nats; components come first, which is the order of the computation.

        Raises
        ------
        TypeError
            If `data` is not a tensor.
        ValueError
            If `data` does not have the shape (N, D).
        """
        if not isinstance(data, Tensor):
            msg = (  # type: ignore[unreachable]  # for callers without a type checker
                f"The module takes a Tensor, got a {type(data).__name__}: torch.as_tensor converts "
                "an array. An estimator's predict_proba and score_samples accept both."
            )
            raise TypeError(msg)
        if data.ndim != 2 or data.shape[1] != self.config.num_features:
            msg = (
                f"Expected samples of shape (N, {self.config.num_features}), got "
                f"{tuple(data.shape)}."
            )
            raise ValueError(msg)
        return self.structure.joint_log_densities(
            data.to(self.means.dtype).mT,
            self.component_probs.log(),
            self.means,
            self.precisions_cholesky,
        )

    def forward(self, data: Tensor) -> tuple[Tensor, Tensor]:
        """Return log-responsibilities and log-densities of samples.

        Parameters
        ----------
        data : Tensor [N, D]
            Samples.

        Returns
        -------
        log_responsibilities : Tensor [N, K]
            log p(component | x).
        log_prob : Tensor [N]
            log p(x), in nats.
        """
        joint = self.joint_log_densities(data)
        log_prob = joint.logsumexp(0)
        return (joint - log_prob).mT, log_prob

    @torch.no_grad()
    def sample(
        self, num_datapoints: int = 1, *, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw samples from the mixture.

        Parameters
        ----------
        num_datapoints : int, default=1
            N, the number of samples.
        generator : torch.Generator, default=None
            Source of random numbers on the module's device; None: the default generator.

        Returns
        -------
        Tensor [N, D]
            Samples, with components in random order.
        """
        num_datapoints = check_count(num_datapoints, "num_datapoints")
        # torch.multinomial has size limits; searching the cumulative weights does not. In float32,
        # weights below eps would vanish in their sum, and more than 2^24 random numbers repeat.
        is_mps = self.component_probs.device.type == "mps"
        steps = self.component_probs.to(torch.float32 if is_mps else torch.float64).cumsum(0)
        uniform = torch.rand(
            num_datapoints, dtype=steps.dtype, device=steps.device, generator=generator
        )
        labels = torch.searchsorted(steps, uniform * steps[-1], right=True)
        labels.clamp_(max=steps.numel() - 1)
        covariances = self._wide_covariances()
        size = (num_datapoints, self.config.num_features)
        noise = torch.randn(size, dtype=covariances.dtype, device=steps.device, generator=generator)
        deviations = self.structure.transform_noise(noise, labels, covariances)
        return (self.means[labels] + deviations).to(self.means.dtype)

    # -- saving -----------------------------------------------------------------------------------

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the module with its configuration to one file, in the format of safetensors.

        An existing file is replaced atomically: after a crash, it is either the old or the new one.

        Parameters
        ----------
        path : str or path-like
            The file, by convention with the extension ``.safetensors``.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        path = Path(path)
        if path.is_dir():
            # Not MODEL_FILE, which is the name of a saved estimator.
            file = path / "mixture.safetensors"
            msg = f"{path} is a directory: give the name of a file, for example {file}."
            raise IsADirectoryError(msg)
        document = {"config": asdict(self.config)}
        replace_file(path, dump_tensors(self.state_dict(), document))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load a module that :meth:`save` has written, on the CPU.

        Parameters
        ----------
        path : str or path-like
            The file, or the directory of a saved estimator, whose module is then loaded.

        Returns
        -------
        GaussianMixtureModel

        Raises
        ------
        OSError
            If the file does not exist.
        ValueError
            If the file has a newer format, is damaged, or does not contain a module.

        Examples
        --------
        >>> import tempfile
        >>> import sklearn_torch_gmm as gmm
        >>> config = gmm.GaussianMixtureModelConfig(2, 1)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = f"{folder}/mixture.safetensors"
        ...     gmm.GaussianMixtureModel(config).save(path)
        ...     gmm.GaussianMixtureModel.load(path).means.shape
        torch.Size([2, 1])
        """
        path = Path(path)
        if path.is_dir():
            path = path / MODEL_FILE
        tensors, document = read_tensors(path, follow_links=True)
        return model_from(tensors, document, str(path), cls)


Model = TypeVar("Model", bound=GaussianMixtureModel)


def model_from(
    tensors: Mapping[str, Tensor], document: Mapping[str, Any], origin: str, cls: type[Model]
) -> Model:
    """Return the module in a file, which messages call ``origin``.

    Raises
    ------
    ValueError
        If there is no module, or its tensors do not match its configuration.
    """
    config = _parse_config(document.get("config"), origin)
    structure = get_structure(config.covariance_type)
    shape = structure.covariance_shape(config.num_components, config.num_features)
    wanted = {
        "component_probs": (config.num_components,),
        "means": (config.num_components, config.num_features),
        "precisions_cholesky": shape,
    }
    # Compared before the module allocates memory for sizes that the configuration may invent.
    found = {name: tuple(tensors[name].shape) for name in wanted if name in tensors}
    dtypes = {tensors[name].dtype for name in found}
    if found != wanted or len(dtypes) != 1 or not min(dtypes, key=str).is_floating_point:
        msg = (
            f"{origin} does not contain the tensors of its {config}: expected {wanted}, of one "
            f"floating-point type, found {found} of {sorted(map(str, dtypes))}."
        )
        raise ValueError(msg)
    with torch.device("cpu"):
        model = cls(config, dtype=dtypes.pop())
    model.load_state_dict({name: tensors[name] for name in wanted})
    return model


def _parse_config(values: Any, origin: str) -> GaussianMixtureModelConfig:
    names = {"num_components", "num_features", "covariance_type"}
    if not isinstance(values, dict) or set(values) != names:
        msg = f"{origin} is not the file of a GaussianMixtureModel: it has no configuration."
        raise ValueError(msg)
    if not isinstance(values["covariance_type"], str):
        values = {**values, "covariance_type": repr(values["covariance_type"])}
    try:
        return GaussianMixtureModelConfig(**values)
    except ValueError as error:
        msg = f"{origin} has an invalid configuration: {error}"
        raise ValueError(msg) from error
