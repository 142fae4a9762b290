"""Whether an installed package works: run by `tox -e package` where nothing but the wheel is.

python tests/smoke.py
"""

import importlib.util
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import sklearn.mixture
import torch

import sklearn_torch_gmm
import sklearn_torch_gmm.mixture


def main() -> None:
    installed = Path(sklearn_torch_gmm.__file__).parent
    assert Path(__file__).parents[1] not in installed.parents, "this is the checkout"
    assert (installed / "py.typed").exists()
    assert version("sklearn-torch-gmm") == sklearn_torch_gmm.__version__

    X = np.random.default_rng(0).normal(size=(300, 2)) + np.repeat([[0.0], [6.0]], 150, axis=0)
    mixture = sklearn_torch_gmm.GaussianMixture(2, batch_size=64, random_state=0).fit(X)
    assert mixture.converged_
    assert len(set(mixture.predict(X)[:150])) == 1
    with tempfile.TemporaryDirectory() as folder:
        mixture.save(folder)
        again = sklearn_torch_gmm.GaussianMixture.load(folder)
    assert (again.predict(torch.tensor(X)).numpy() == mixture.predict(X)).all()

    ours = sklearn_torch_gmm.mixture.GaussianMixture(2, random_state=0).fit(X)
    theirs = sklearn.mixture.GaussianMixture(2, random_state=0).fit(X)
    assert ours.n_iter_ == theirs.n_iter_
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9, atol=1e-9)

    if importlib.util.find_spec("matplotlib") is None:
        message = ""
        try:
            sklearn_torch_gmm.MixtureDisplay.from_estimator(ours)
        except ImportError as error:
            message = str(error)
        assert "requires matplotlib" in message
    print(f"sklearn-torch-gmm {sklearn_torch_gmm.__version__} works")


if __name__ == "__main__":
    main()
