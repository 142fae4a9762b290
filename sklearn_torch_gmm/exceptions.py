"""The package's errors and warnings, subclasses of those that scikit-learn users already catch."""

from __future__ import annotations

from sklearn.exceptions import InconsistentVersionWarning


class IllDefinedCovarianceError(ValueError):
    """A component's covariance is not positive definite after regularization.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm.mixture import GaussianMixture
    >>> GaussianMixture(reg_covar=0.0).fit(np.ones((5, 2)))
    Traceback (most recent call last):
    ...
    sklearn_torch_gmm.exceptions.IllDefinedCovarianceError: ...
    """


class NonFiniteLikelihoodError(ValueError):
    """The log-likelihood of the data is NaN or infinite.

    Examples
    --------
    >>> from sklearn_torch_gmm.exceptions import NonFiniteLikelihoodError
    >>> issubclass(NonFiniteLikelihoodError, ValueError)
    True
    """


class UnrepresentableParameterError(ValueError):
    """A parameter of the mixture exceeds the range of the data's floating-point type.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> X = np.array([[-1e30], [1e30]], dtype=np.float32)
    >>> GaussianMixture(init_means=[[0.0]]).fit(X)
    Traceback (most recent call last):
    ...
    sklearn_torch_gmm.exceptions.UnrepresentableParameterError: ...
    """


class EmptyComponentWarning(UserWarning):
    """A component lost all of its samples during the fit.

    Examples
    --------
    >>> import warnings
    >>> import numpy as np
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> with warnings.catch_warnings(record=True) as caught:
    ...     warnings.simplefilter("always")
    ...     mixture = GaussianMixture(2, init_means=[[0.0], [1e6]])
    ...     _ = mixture.fit(np.eye(5)[:, :1])
    >>> caught[0].category.__name__
    'EmptyComponentWarning'
    """


class UnstorableParameterError(ValueError, TypeError):
    """A parameter has a value that cannot be stored without pickle.

    Like scikit-learn's ``InvalidParameterError``, it is both a ValueError and a TypeError.

    Examples
    --------
    >>> from sklearn_torch_gmm import GaussianMixture
    >>> GaussianMixture(trainer_params={"callbacks": [print]}).save("directory")
    Traceback (most recent call last):
    ...
    sklearn_torch_gmm.exceptions.UnstorableParameterError: ...
    """


class ModelVersionWarning(InconsistentVersionWarning):
    """An estimator was pickled by another version of this package.

    Parameters
    ----------
    current_version : str
        The version of sklearn_torch_gmm that reads the pickle.
    original_version : str
        The version of sklearn_torch_gmm that wrote the pickle.
    **kwargs : str
        ``estimator_name``, ``current_sklearn_version`` and ``original_sklearn_version``.

    Examples
    --------
    To load such pickles without the warning:

    >>> import warnings
    >>> from sklearn_torch_gmm.exceptions import ModelVersionWarning
    >>> warnings.simplefilter("ignore", ModelVersionWarning)  # doctest: +SKIP
    """

    def __init__(self, *, current_version: str, original_version: str, **kwargs: str) -> None:
        super().__init__(**kwargs)
        self.current_version = current_version
        self.original_version = original_version

    def __str__(self) -> str:
        return (
            f"Trying to unpickle estimator {self.estimator_name} from version "
            f"{self.original_version} of sklearn_torch_gmm when using version "
            f"{self.current_version}. This might lead to breaking code or invalid results. Use at "
            "your own risk. A directory written by the method save can be read by later versions."
        )
