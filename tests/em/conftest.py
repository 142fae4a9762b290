"""The loop that a test runs over: the plain one, or Lightning's."""

import pytest

from sklearn_torch_gmm.training import fit


@pytest.fixture(params=["plain", "lightning"])
def loop(request, monkeypatch):
    if request.param == "lightning":
        monkeypatch.setattr(fit, "asks_nothing_of_a_trainer", lambda trainer_params: False)
    return request.param
