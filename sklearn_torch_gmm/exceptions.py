"""Errors and warnings of the package's own.

They subclass what users of scikit-learn already catch.
"""

from __future__ import annotations

from sklearn.exceptions import InconsistentVersionWarning


class IllDefinedCovarianceError(ValueError):
    """A component's covariance is not positive definite after regularization."""


class NonFiniteLikelihoodError(ValueError):
    """The log-likelihood of the data is not a finite number."""


class UnrepresentableParameterError(ValueError):
    """A parameter of the mixture is beyond the range of the data's floating-point type."""


class EmptyComponentWarning(UserWarning):
    """A component lost all of its rows during the fit."""


class UnstorableParameterError(ValueError, TypeError):
    """A parameter has a value that cannot be stored without pickle.

    Like scikit-learn's ``InvalidParameterError`` it is both of the errors that it may be taken for.
    """


class ModelVersionWarning(InconsistentVersionWarning):
    """An estimator was pickled by another version of this package.

    Parameters
    ----------
    estimator_name : str
    current_version, original_version : str
        Of sklearn_torch_gmm.
    current_sklearn_version, original_sklearn_version : str
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
            "your own risk. A directory written by its method save does not depend on the version."
        )
