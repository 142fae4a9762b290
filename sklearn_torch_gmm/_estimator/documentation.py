"""Where an estimator's HTML representation leads."""

from sklearn.base import BaseEstimator

DOCUMENTATION = "https://sklearn-torch-gmm.readthedocs.io/en/latest/api"
PAGE_TEMPLATE = DOCUMENTATION + "/{page}.html"


def reference_page(estimator: BaseEstimator) -> dict[str, str]:
    """Return the page of an estimator in the reference, for :data:`PAGE_TEMPLATE`."""
    return {"page": f"{type(estimator).__module__}.{type(estimator).__name__}"}
