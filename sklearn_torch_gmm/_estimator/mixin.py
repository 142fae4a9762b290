"""Pickles and documentation links, which mixtures and searches have in common."""

from __future__ import annotations

from sklearn_torch_gmm._saving import pickling


class PackageEstimatorMixin:
    """Pickles that record the package's version, and links to the package's documentation."""

    __getstate__ = pickling.get_state
    __setstate__ = pickling.set_state
    # scikit-learn's HTML representation makes the link from these three.
    _doc_link_module = "sklearn_torch_gmm"
    _doc_link_template = "https://sklearn-torch-gmm.readthedocs.io/en/latest/api/{page}.html"

    def _doc_link_url_param_generator(self) -> dict[str, str]:
        return {"page": f"{type(self).__module__}.{type(self).__name__}"}
