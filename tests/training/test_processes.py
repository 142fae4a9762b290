"""Several processes: each row counts once, and every process ends with the same mixture."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sklearn_torch_gmm import GaussianMixture, GaussianMixtureClassifier
from sklearn_torch_gmm.training.trainer import make_trainer
from tests.rows.examples import NUM_ROWS, Store, Stream, sorted_by_component

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    # The threads of this process are not used in its copies.
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]

FORKED = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_fork"}


class WitnessedRows(Dataset):
    """Leaves a file for each process that reads a row."""

    def __init__(self, rows, folder):
        self.rows = rows
        self.folder = folder

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        (self.folder / str(os.getpid())).touch()
        return self.rows[index]


class Die(pl.Callback):
    """Ends one of the processes in the middle of an iteration."""

    def __init__(self, how):
        self.how = how

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_rank == 1 and trainer.current_epoch == 2:
            self.how()


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def exits():
    os._exit(3)


def raises():
    raise OSError("the disk is gone")


@pytest.fixture
def X():
    return sorted_by_component()


def kinds(X, folder):
    np.save(folder / "X.npy", X)
    return {
        "array": X,
        "tensor": torch.tensor(X),
        "memmap": np.load(folder / "X.npy", mmap_mode="r"),
        "dataset": TensorDataset(torch.tensor(X)),
        "stream": Stream(X),
        "store": Store(X),
        "loader": DataLoader(TensorDataset(torch.tensor(X)), batch_size=20),
        "loader of ready batches": DataLoader(Stream(torch.tensor(X).split(50)), batch_size=None),
    }


def fit(data, X, *, trainer_params=None, **options):
    defaults = {
        "covariance_type": "full",
        "init_means": X[[0, -1]],
        "convergence_tolerance": 1e-5,
        "trainer_params": trainer_params,
    }
    return GaussianMixture(2, **defaults | options).fit(data)


def assert_same_fit(actual, expected):
    assert actual.n_iter_ == expected.n_iter_
    assert actual.n_samples_seen_ == expected.n_samples_seen_
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_allclose(
            getattr(actual, name), getattr(expected, name), rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_two_processes_give_the_mixture_of_one(X, tmp_path, covariance_type):
    expected = fit(X, X, covariance_type=covariance_type)
    for name, data in kinds(X, tmp_path).items():
        options = {"covariance_type": covariance_type, "batch_size": 7}
        actual = fit(data, X, trainer_params=FORKED, **options)
        assert_same_fit(actual, expected)
        if name == "array":
            np.testing.assert_array_equal(actual.labels_, expected.labels_)


@pytest.mark.parametrize(
    "fixed", [("weights",), ("means",), ("covariances",), {"means": [1], "weights": [0]}], ids=str
)
def test_parts_stay_fixed_in_two_processes(X, fixed):
    expected = fit(X, X, fixed=fixed, covariance_type="tied")
    actual = fit(X, X, fixed=fixed, covariance_type="tied", trainer_params=FORKED)
    assert_same_fit(actual, expected)
    assert actual.n_iter_ > 1


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_extrapolation_in_two_processes(X, covariance_type):
    X = X + np.random.default_rng(0).normal(size=X.shape, scale=3.0)
    options = {
        "covariance_type": covariance_type, "acceleration": "squarem", "batch_size": 30,
        "convergence_tolerance": 1e-4,
    }  # fmt: skip
    expected = fit(X, X, **options)
    actual = fit(X, X, trainer_params=FORKED, **options)
    assert actual.n_iter_ == expected.n_iter_ > 6
    # Extrapolation multiplies the rounding of sums in another order.
    np.testing.assert_allclose(actual.lower_bounds_, expected.lower_bounds_, rtol=1e-7)
    np.testing.assert_allclose(actual.means_, expected.means_, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_labelled_rows_in_two_processes(X, weighted):
    """Both classes have their labelled rows in one half of the data."""
    y = np.full(NUM_ROWS, -1)
    y[:10], y[-10:] = 0, 1
    weights = 1.0 + np.arange(NUM_ROWS) % 3 if weighted else None
    expected = GaussianMixtureClassifier(tol=1e-6).fit(X, y, weights)
    classifier = GaussianMixtureClassifier(tol=1e-6, trainer_params=FORKED, batch_size=20)
    assert_same_fit(classifier.fit(X, y, weights).mixture_, expected.mixture_)
    assert expected.n_iter_ > 2


def test_weights_that_come_with_the_rows_in_two_processes(X):
    weights = np.where(np.arange(NUM_ROWS) % 3 == 0, 0.0, 1e-20 * (1 + np.arange(NUM_ROWS) % 7))
    pairs = TensorDataset(torch.tensor(X), torch.tensor(weights))
    options = {"covariance_type": "full", "random_state": 0, "num_workers": 1, "batch_size": 20}
    expected = GaussianMixture(2, **options).fit(X, sample_weight=weights)
    for data in (
        Stream(list(zip(X, weights, strict=True))),
        DataLoader(pairs, batch_size=20),
        DataLoader(Stream([pairs[:50], pairs[50:]]), batch_size=None),
    ):
        mixture = GaussianMixture(2, trainer_params=FORKED, **options)
        mixture.fit(data, sample_weight=True)
        assert mixture.n_samples_seen_ == pytest.approx(weights.sum(), rel=1e-12)
        mixture.n_samples_seen_ = expected.n_samples_seen_
        assert_same_fit(mixture, expected)


@pytest.mark.parametrize("batch_size", [1, 500, None])
def test_batches_of_two_processes(X, batch_size):
    X = X[170:230]
    actual = fit(X, X, trainer_params=FORKED, batch_size=batch_size)
    assert_same_fit(actual, fit(X, X))


def test_a_process_without_rows_takes_part(X):
    few = X[[0, 1]]
    two = GaussianMixture(1, trainer_params=FORKED | {"devices": 3}).fit(few)
    assert_same_fit(two, GaussianMixture(1).fit(few))


def test_random_numbers_are_those_of_one_process(X):
    states = [np.random.RandomState(0), np.random.RandomState(0)]
    one, two = (
        GaussianMixture(2, num_init=2, random_state=state, trainer_params=params).fit(X)
        for state, params in zip(states, [None, FORKED], strict=True)
    )
    assert_same_fit(two, one)
    assert states[0].random_sample() == states[1].random_sample()


def test_errors_keep_their_type(X):
    for data, message in [
        (np.repeat(np.eye(3), 20, axis=0), "ill-defined empirical covariance"),
        (Stream(np.nan * X), "NaN or infinity: sample 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            GaussianMixture(2, covariance_regularization=0, trainer_params=FORKED).fit(data)


def test_a_loader_that_cannot_be_shared_is_refused_before_it_is_read(X):
    read = []

    def collate(rows):
        read.append(len(rows))
        return torch.stack(rows)

    loader = DataLoader(torch.from_numpy(X), batch_size=30, shuffle=True, collate_fn=collate)
    with pytest.raises(ValueError, match="cannot share a DataLoader with a RandomSampler"):
        fit(loader, X, trainer_params=FORKED)
    # Its first batch tells the number of features.
    assert read == [30]


def test_a_row_that_turns_bad_in_one_process_ends_both(X):
    class Spoiling(Stream):
        times = 0

        def __iter__(self):
            self.times += 1
            # Each process counts by itself.
            return iter(
                X if self.times < 5 else np.where(np.arange(307)[:, None] == 251, np.nan, X)
            )

    with pytest.raises(ValueError, match=r"sample 25 of batch 2.* counted within process 1\."):
        fit(Spoiling(X), X, batch_size=50, convergence_tolerance=0, trainer_params=FORKED)


def test_more_threads_in_the_parent_do_not_hang_its_copies(X):
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        torch.ones(2_000_000).exp()
        assert fit(X, X, trainer_params=FORKED).converged_
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("how", [killed, exits, raises])
def test_a_process_that_ends_ends_the_fit(X, how, capfd):
    others = set(multiprocessing.active_children())
    with pytest.raises(Exception, match=r"SIGKILL|exit code 3|the disk is gone"):
        fit(X, X, convergence_tolerance=0, trainer_params=FORKED | {"callbacks": [Die(how)]})
    assert set(multiprocessing.active_children()) <= others


def test_workers_of_the_processes_end_with_the_fit(X, tmp_path):
    options = {"num_workers": 1, "batch_size": 100}
    mixture = fit(WitnessedRows(X, tmp_path), X, trainer_params=FORKED, **options)
    assert_same_fit(mixture, fit(X, X))
    readers = [int(path.name) for path in tmp_path.iterdir() if int(path.name) != os.getpid()]
    assert len(readers) == 2
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in readers):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_devices_without_a_strategy_in_a_notebook_are_forked(monkeypatch):
    connector = "pytorch_lightning.trainer.connectors.accelerator_connector._IS_INTERACTIVE"
    monkeypatch.setattr(connector, True)
    trainer = make_trainer({"accelerator": "cpu", "devices": 2}, max_epochs=1)
    assert trainer.strategy.launcher.is_interactive_compatible


# -- scripts --------------------------------------------------------------------------------------

DATA = """
import json, os, sys
import numpy as np, torch
from torch.utils.data import Dataset, IterableDataset
from sklearn_torch_gmm import GaussianMixture, GaussianMixtureClassifier

rng = np.random.default_rng(0)
X = np.vstack([rng.normal(size=(200, 3)), rng.normal(size=(107, 3)) + 2.5])
folder = sys.argv[1]
"""


def run(program, folder):
    path = folder / "program.py"
    path.write_text(DATA + textwrap.dedent(program))
    # The number of threads is one; what Lightning says of it would not depend on us.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SLURM")}
    return subprocess.run(
        [sys.executable, str(path), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        # A process that waits for one that has ended would do so for half an hour.
        timeout=250,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )


def test_a_script_on_two_processes(X, tmp_path):
    done = run(
        """
        class Counted(Dataset):
            def __init__(self):
                self.read = []
            def __len__(self):
                return len(X)
            def __getitem__(self, index):
                self.read.append(index)
                return X[index]

        class Spoiled(IterableDataset):
            def __iter__(self):
                return iter(np.where(np.arange(307)[:, None] == 250, np.nan, X))

        collectives = []
        for name in ("all_reduce", "broadcast", "all_gather", "reduce", "gather"):
            def spy(tensor, *args, _name=name, _original=getattr(torch.distributed, name), **kw):
                size = tensor.numel() if isinstance(tensor, torch.Tensor) else None
                collectives.append([_name, size])
                return _original(tensor, *args, **kw)
            setattr(torch.distributed, name, spy)

        class Pairs(IterableDataset):
            def __iter__(self):
                return zip(X, 1e-20 * (np.arange(307) % 4))

        def fit(data, callbacks=None, sample_weight=None, **options):
            params = {"accelerator": "cpu", "devices": 2, "strategy": "ddp", "max_epochs": 6}
            params["callbacks"] = callbacks
            defaults = {"init_means": X[[0, -1]], "convergence_tolerance": 0}
            mixture = GaussianMixture(2, trainer_params=params, **defaults | options)
            return mixture.fit(data, sample_weight=sample_weight)

        import warnings
        warnings.simplefilter("ignore")
        counted = Counted()
        result = {"fits": {}, "collectives": {}}
        for kind in ("full", "tied", "diag", "spherical"):
            collectives.clear()
            counted.read.clear()
            mixture = fit(counted, covariance_type=kind, batch_size=50)
            result["collectives"][kind] = list(collectives)
            result["fits"][kind] = {
                "means": mixture.means_.tolist(),
                "covariances": mixture.covariances_.tolist(),
            }
        result["read"] = list(counted.read)
        drawn = fit(X, init_means=None, random_state=0, covariance_type="full")
        result["labels"] = drawn.labels_.tolist()
        result["score"] = drawn.score(X)
        weighted = fit(Pairs(), sample_weight=True, init_means=None, random_state=0)
        result["weighted"] = [weighted.means_.tolist(), weighted.n_samples_seen_]
        try:
            fit(Spoiled(), init_means=None)
        except ValueError as error:
            result["error"] = str(error)
        rank = os.environ["LOCAL_RANK"] if "LOCAL_RANK" in os.environ else "0"
        with open(f"{folder}/{rank}.json", "w") as file:
            json.dump(result, file)
        torch.distributed.barrier()
        # In one write: the lines of two processes must not mix.
        sys.stderr.write("the end\\n")

        # Now the second process is killed, and the first must not wait for it.
        import signal
        import pytorch_lightning as pl

        class Kill(pl.Callback):
            def on_train_epoch_start(self, trainer, pl_module):
                if trainer.global_rank == 1 and trainer.current_epoch == 2:
                    os.kill(os.getpid(), signal.SIGKILL)

        fit(X, callbacks=[Kill()])
        print("not reached")
        """,
        tmp_path,
    )
    assert done.returncode != 0
    assert done.stdout == ""
    assert done.stderr.startswith("the end\n")
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in "01")

    # Every process holds the same mixture, and answers for all rows in order.
    for name in ("fits", "labels", "score", "weighted", "error"):
        assert first[name] == second[name]
    assert first["error"].startswith("Input X contains NaN or infinity: sample 250 of batch 0")
    params = {"max_epochs": 6}
    for kind, found in first["fits"].items():
        expected = fit(X, X, covariance_type=kind, convergence_tolerance=0, trainer_params=params)
        np.testing.assert_allclose(found["means"], expected.means_, rtol=1e-8)
        np.testing.assert_allclose(found["covariances"], expected.covariances_, rtol=1e-8)
    drawn = GaussianMixture(
        2,
        covariance_type="full",
        random_state=0,
        convergence_tolerance=0,
        trainer_params={"max_epochs": 6},
    ).fit(X)
    np.testing.assert_array_equal(first["labels"], drawn.labels_)
    assert first["score"] == pytest.approx(drawn.score(X), rel=1e-9)
    weights = 1e-20 * (np.arange(NUM_ROWS) % 4)
    drawn.set_params(covariance_type="diag").fit(X, sample_weight=weights)
    np.testing.assert_allclose(first["weighted"][0], drawn.means_, rtol=1e-8)
    assert first["weighted"][1] == pytest.approx(weights.sum(), rel=1e-12)

    # The first process read all rows for the start, the other its width alone; then their shares.
    assert first["read"] == [0, *range(NUM_ROWS), *list(range(153)) * 6]
    assert second["read"] == [0, *list(range(153, NUM_ROWS)) * 6]

    moments = {"full": 3 + 6, "tied": 3, "diag": 6, "spherical": 4}
    for kind, collectives in first["collectives"].items():
        size = 2 * (moments[kind] + 1) + 1
        sums = [numel for name, numel in collectives if name == "all_reduce" and numel >= size]
        assert sums == [size + (9 if kind == "tied" else 0)] + [size] * 5
        last_sums = [i for i, call in enumerate(collectives) if call == ["all_reduce", size]][-5:]
        # Between the iterations nothing else is sent.
        assert last_sums == list(range(last_sums[0], last_sums[0] + 5))


def test_spawned_processes_are_silent_and_give_their_mixture_back(X, tmp_path):
    np.save(tmp_path / "X.npy", X)
    done = run(
        """
        if __name__ == "__main__":
            params = {"accelerator": "cpu", "devices": 2, "strategy": "ddp_spawn"}
            mapped = np.load(folder + "/X.npy", mmap_mode="r")
            mixture = GaussianMixture(
                2, init_means=X[[0, -1]], convergence_tolerance=1e-5, covariance_type="full",
                batch_size=50, trainer_params=params,
            ).fit(mapped)
            np.save(folder + "/means.npy", mixture.means_)
            np.save(folder + "/bounds.npy", mixture.lower_bounds_)
        """,
        tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    expected = fit(X, X)
    np.testing.assert_allclose(np.load(tmp_path / "means.npy"), expected.means_, rtol=1e-8)
    np.testing.assert_allclose(np.load(tmp_path / "bounds.npy"), expected.lower_bounds_)


def test_a_sweep_on_a_dask_cluster(X):
    distributed = pytest.importorskip("distributed")
    import joblib
    from sklearn.model_selection import GridSearchCV

    grid = {"num_components": [1, 2]}
    options = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    with (
        distributed.LocalCluster(dashboard_address=None, **options) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        search = GridSearchCV(GaussianMixture(random_state=0), grid, cv=2).fit(X)
    expected = GridSearchCV(GaussianMixture(random_state=0), grid, cv=2).fit(X)
    np.testing.assert_allclose(
        search.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"]
    )
