"""Where an estimator's HTML representation leads."""

from sklearn.base import BaseEstimator

DOCUMENTATION = "https://sklearn-torch-gmm.readthedocs.io/en/latest/api"


class DocumentedEstimator(BaseEstimator):  # type: ignore[misc]
    """Links the name of an estimator to its page in the reference."""

    _doc_link_module = "sklearn_torch_gmm"
    _doc_link_template = DOCUMENTATION + "/{page}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"page": f"{type(self).__module__}.{type(self).__name__}"}
