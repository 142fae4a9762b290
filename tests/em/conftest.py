"""The loop that a test runs over: the plain one, or Lightning's. Counts of the runs of K-means."""

import pytest
from sklearn.cluster import KMeans

from sklearn_torch_gmm.training import fit


@pytest.fixture(params=["plain", "lightning"])
def loop(request, monkeypatch):
    if request.param == "lightning":
        monkeypatch.setattr(fit, "asks_nothing_of_a_trainer", lambda trainer_params: False)
    return request.param


@pytest.fixture
def sizes_found(monkeypatch):
    """The numbers of components of all runs of K-means."""
    sizes = []
    fit = KMeans.fit

    def counted(model, *arguments, **options):
        sizes.append(model.n_clusters)
        return fit(model, *arguments, **options)

    monkeypatch.setattr(KMeans, "fit", counted)
    return sizes
