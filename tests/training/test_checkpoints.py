"""A fit that was interrupted continues where it was."""

import os
import signal
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from sklearn.exceptions import ConvergenceWarning
from torch.utils.data import DataLoader, TensorDataset

from sklearn_torch_gmm import GaussianMixture
from sklearn_torch_gmm.mixture import BayesianGaussianMixture
from sklearn_torch_gmm.mixture import GaussianMixture as DropIn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PARAMETERS = ("weights_", "means_", "covariances_", "lower_bounds_", "n_iter_", "converged_")


class Interrupted(Exception):
    pass


class Stop(pl.Callback):
    """Ends the fit before an iteration."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise Interrupted


@pytest.fixture
def X():
    return np.random.default_rng(0).normal(size=(211, 3)) * [1.0, 2.0, 3.0]


def checkpointing(folder, *callbacks):
    every = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1)
    return {"enable_checkpointing": True, "callbacks": [every, *callbacks]}


def assert_same_fit(actual, expected):
    for name in PARAMETERS:
        np.testing.assert_array_equal(getattr(actual, name), getattr(expected, name), name)


def mixture(**options):
    defaults = {"n_components": 3, "tol": 0.0, "max_iter": 9, "init_params": "random"}
    return DropIn(**defaults | options)


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
@pytest.mark.parametrize("stopped_before", [1, 6])
def test_goes_on_after_the_last_finished_iteration(X, tmp_path, covariance_type, stopped_before):
    options = {"covariance_type": covariance_type, "random_state": 0, "batch_size": 50}
    with pytest.raises(Interrupted):
        mixture(**options, trainer_params=checkpointing(tmp_path, Stop(stopped_before))).fit(X)
    last = tmp_path / f"epoch={stopped_before - 1}.ckpt"
    resumed = mixture(**options, trainer_params=checkpointing(tmp_path)).fit(X, ckpt_path=last)
    assert_same_fit(resumed, mixture(**options).fit(X))


def test_random_numbers_and_all_starts_go_on(X, tmp_path):
    X[:70] += 7.0

    def fit(random_state, **options):
        # The starts converge one by one.
        options = {"init_params": "random_from_data", "random_state": random_state} | options
        return mixture(n_init=4, tol=1e-3, max_iter=40, **options)

    whole_state, stopped_state = np.random.RandomState(0), np.random.RandomState(0)
    whole = fit(whole_state).fit(X)
    with pytest.raises(Interrupted):
        fit(stopped_state, trainer_params=checkpointing(tmp_path, Stop(5))).fit(X)
    # A new process begins with random numbers of its own.
    resumed_state = np.random.RandomState(1)
    resumed = fit(resumed_state).fit(X, ckpt_path=str(tmp_path / "epoch=4.ckpt"))
    assert_same_fit(resumed, whole)
    assert resumed_state.random_sample() == whole_state.random_sample()


def test_repeated_iterations_are_not_counted_after_a_restart_either(tmp_path):
    X = np.random.default_rng(0).normal(size=(20_001, 2))
    # Not among the evenly spaced rows that tell, before the first iteration, how far rows reach.
    X[1] = 1e4
    options = {"init_params": "random_from_data", "random_state": 0, "max_iter": 4}
    whole = mixture(**options).fit(X)
    with pytest.raises(Interrupted):
        mixture(**options, trainer_params=checkpointing(tmp_path, Stop(3))).fit(X)
    last = tmp_path / "epoch=2.ckpt"
    assert torch.load(last, weights_only=True)["state_dict"]["_extra_state"]["repeats"] == 1
    resumed = mixture(**options).fit(X, ckpt_path=last)
    assert whole.n_iter_ == 4
    assert_same_fit(resumed, whole)


def test_a_finished_run_runs_no_further(X, tmp_path):
    options = {"random_state": 0, "tol": 1e-1}
    first = mixture(**options, trainer_params=checkpointing(tmp_path)).fit(X)
    assert first.converged_
    last = tmp_path / f"epoch={first.n_iter_ - 1}.ckpt"
    assert_same_fit(mixture(**options).fit(X, ckpt_path=last), first)


def test_more_iterations_than_the_first_run_was_allowed(X, tmp_path):
    options = {"random_state": 0}
    mixture(**options, max_iter=4, trainer_params=checkpointing(tmp_path)).fit(X)
    resumed = mixture(**options).fit(X, ckpt_path=tmp_path / "epoch=3.ckpt")
    assert_same_fit(resumed, mixture(**options).fit(X))


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_extrapolation_goes_on_in_the_middle_of_a_cycle(X, tmp_path, covariance_type):
    options = {
        "covariance_type": covariance_type, "random_state": 0, "n_init": 2, "max_iter": 16,
        "acceleration": "squarem",
    }  # fmt: skip
    whole = mixture(**options, trainer_params=checkpointing(tmp_path)).fit(X)
    assert_same_fit(mixture(**options).fit(X), whole)
    kinds = set()
    for epoch in range(5, 15):
        last = tmp_path / f"epoch={epoch}.ckpt"
        state = torch.load(last, weights_only=True)["state_dict"]["_extra_state"]
        cycles = [restart["cycle"] for restart in state["iterations"]["fits"][0]["restarts"]]
        kinds |= {(c["origin"] is None, c["extrapolated"] is None) for c in cycles}
        assert_same_fit(mixture(**options).fit(X, ckpt_path=last), whole)
    # In both phases of a cycle.
    assert {(False, True), (True, False)} <= kinds


@pytest.mark.parametrize("first", [6, 7, 8])
def test_more_iterations_with_extrapolation(X, tmp_path, first):
    options = {"random_state": 0, "acceleration": "squarem"}
    mixture(**options, max_iter=first, trainer_params=checkpointing(tmp_path)).fit(X)
    resumed = mixture(**options, max_iter=15).fit(X, ckpt_path=tmp_path / f"epoch={first - 1}.ckpt")
    assert_same_fit(resumed, mixture(**options, max_iter=15).fit(X))


def test_more_iterations_of_few_components_with_many_features(tmp_path):
    # Their iterations work with differences to the means, whatever the bound on the error.
    X = np.random.default_rng(0).normal(size=(211, 50))
    options = {"n_components": 2, "random_state": 0}
    mixture(**options, max_iter=2, trainer_params=checkpointing(tmp_path)).fit(X)
    resumed = mixture(**options).fit(X, ckpt_path=tmp_path / "epoch=1.ckpt")
    assert_same_fit(resumed, mixture(**options).fit(X))


def test_a_checkpoint_holds_plain_values_alone(X, tmp_path):
    mixture(random_state=0, trainer_params=checkpointing(tmp_path)).fit(X)
    torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 4}, r"holds means of shape \(3, 3\), but this fit has .* \(4, 3\)"),
        ({"n_init": 2}, "holds starts 1, but this fit has starts 2"),
        ({"covariance_type": "diag"}, "holds covariances of type full, but this fit has .* diag"),
        ({"reg_covar": 1e-3}, "holds reg_covar 1e-06, but this fit has reg_covar 0.001"),
        ({"fixed": ("weights",)}, r"holds fixed parts \[\], but this fit has .* \['weights'\]"),
        ({"acceleration": "squarem"}, "holds acceleration None, but this fit has .* squarem"),
        ({"random_state": 1}, "holds random_state 0, but this fit has random_state 1"),
        ({"random_state": None}, "holds random_state 0, but this fit has random_state None"),
    ],
)
def test_a_checkpoint_of_another_fit_is_refused(X, tmp_path, options, message):
    mixture(random_state=0, trainer_params=checkpointing(tmp_path)).fit(X)
    with pytest.raises(ValueError, match=message):
        mixture(**{"random_state": 0, **options}).fit(X, ckpt_path=tmp_path / "epoch=1.ckpt")


def test_a_checkpoint_of_another_version_is_refused(X, tmp_path):
    mixture(random_state=0, trainer_params=checkpointing(tmp_path)).fit(X)
    path = tmp_path / "epoch=1.ckpt"
    content = torch.load(path, weights_only=True)
    for found in (None, {}, {**content["sklearn_torch_gmm"], "version": 99}):
        torch.save({**content, "sklearn_torch_gmm": found}, path)
        with pytest.raises(
            ValueError, match=r"epoch=1\.ckpt is of another version of sklearn_torch"
        ):
            mixture(random_state=0).fit(X, ckpt_path=path)


def flipped(content, bit):
    return content[: bit // 8] + bytes([content[bit // 8] ^ 1 << bit % 8]) + content[bit // 8 + 1 :]


@pytest.fixture
def checkpoint(X, tmp_path):
    mixture(random_state=0, max_iter=3, trainer_params=checkpointing(tmp_path)).fit(X)
    return tmp_path / "epoch=1.ckpt"


def test_a_flipped_bit_in_a_tensor_is_found(X, checkpoint):
    """torch itself does not find it in every place."""
    content = checkpoint.read_bytes()
    state = torch.load(checkpoint, weights_only=True)["state_dict"]["_extra_state"]
    _, means, covariances, factors = state["iterations"]["fits"][0]["restarts"][0]["parameters"]
    for tensor in (means, covariances, factors):
        # In the order of memory, which depends on the processor.
        octets = bytes(tensor.untyped_storage())
        assert content.count(octets) == 1
        for bit in (2, 8 * len(octets) - 60):
            damaged = flipped(content, 8 * content.index(octets) + bit)
            checkpoint.write_bytes(damaged)
            with pytest.raises(ValueError, match=r"epoch=1\.ckpt is damaged"):
                mixture(random_state=0).fit(X, ckpt_path=checkpoint)


def test_a_changed_value_is_found(X, checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    content["loops"]["fit_loop"]["epoch_progress"]["current"]["completed"] += 1
    torch.save(content, checkpoint)
    with pytest.raises(ValueError, match=r"epoch=1\.ckpt is damaged: its checksum"):
        mixture(random_state=0).fit(X, ckpt_path=checkpoint)


def test_a_single_value_may_lie_anywhere_in_memory(X, tmp_path):
    """The part of one restart in tensors of several keeps their strides."""
    options = {"n_components": 1, "n_init": 2, "max_iter": 9, "random_state": 0}
    whole = BayesianGaussianMixture(**options, trainer_params=checkpointing(tmp_path)).fit(X)
    first = tmp_path / "epoch=0.ckpt"
    resumed = BayesianGaussianMixture(**options, trainer_params=checkpointing(tmp_path))
    assert_same_fit(resumed.fit(X, ckpt_path=first), whole)


def test_a_last_checkpoint_that_is_damaged_is_named(X, tmp_path):
    callback = ModelCheckpoint(tmp_path, save_last=True)
    params = {"callbacks": [callback]}
    mixture(random_state=0, trainer_params=params).fit(X)
    last = tmp_path / "last.ckpt"
    last.write_bytes(last.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"last\.ckpt is damaged"):
        mixture(random_state=0, trainer_params=params).fit(X, ckpt_path="last")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_what_is_no_file_is_refused(X, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (os.devnull, tmp_path, tmp_path / "pipe"):
        with pytest.raises(ValueError, match=rf"^{path} is not a regular file"):
            mixture().fit(X, ckpt_path=path)


def test_a_checkpoint_of_the_module_alone_is_refused(X, tmp_path):
    callback = ModelCheckpoint(tmp_path, filename="alone", save_weights_only=True)
    mixture(random_state=0, trainer_params={"callbacks": [callback]}).fit(X)
    with pytest.raises(ValueError, match=r"alone\.ckpt .* save_weights_only=False"):
        mixture(random_state=0).fit(X, ckpt_path=tmp_path / "alone.ckpt")


def test_a_checkpoint_that_is_missing_is_named(X, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.ckpt"):
        mixture(random_state=0).fit(X, ckpt_path=tmp_path / "missing.ckpt")


def test_another_number_of_rows_is_refused(X, checkpoint):
    with pytest.raises(ValueError, match=r"a number of rows of 211, but this fit has .* of 210"):
        mixture(random_state=0).fit(X[1:], ckpt_path=checkpoint)


def test_another_number_of_rows_in_a_stream_is_refused(X, tmp_path):
    data = [DataLoader(TensorDataset(torch.from_numpy(x)), batch_size=50) for x in (X, X[1:])]
    mixture(random_state=0, max_iter=3, trainer_params=checkpointing(tmp_path)).fit(data[0])
    with pytest.raises(ValueError, match="gave 211 rows once, and 210"):
        mixture(random_state=0).fit(data[1], ckpt_path=tmp_path / "epoch=1.ckpt")


@pytest.mark.parametrize("name", ["min_epochs", "min_steps"])
def test_a_checkpoint_is_refused_however_many_iterations_there_should_be(X, tmp_path, name):
    mixture(random_state=0, trainer_params=checkpointing(tmp_path)).fit(X)
    with pytest.raises(ValueError, match="checkpoint is of another fit"):
        mixture(n_init=2, trainer_params={name: 5}).fit(X, ckpt_path=tmp_path / "epoch=1.ckpt")


def test_a_killed_process(tmp_path):
    """The data, the random numbers and all starts are those of the process that is gone."""
    program = textwrap.dedent(
        """
        import os, signal, sys
        import numpy as np
        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import ModelCheckpoint
        from sklearn_torch_gmm import GaussianMixture

        class Kill(pl.Callback):
            def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
                if trainer.current_epoch == 5 and batch_idx == 1:
                    os.kill(os.getpid(), signal.SIGKILL)

        folder = sys.argv[1]
        X = np.load(folder + "/X.npy")
        callbacks = [ModelCheckpoint(folder, save_last=True), Kill()]
        GaussianMixture(
            3, covariance_type="tied", init_strategy="random", num_init=2, batch_size=50,
            convergence_tolerance=0, random_state=np.random.RandomState(0),
            trainer_params={
                "max_epochs": 9, "enable_checkpointing": True, "callbacks": callbacks
            },
        ).fit(X)
        """
    )
    X = np.random.default_rng(0).normal(size=(211, 3))
    np.save(tmp_path / "X.npy", X)
    run = subprocess.run([sys.executable, "-c", program, tmp_path], check=False, timeout=120)
    assert run.returncode == -signal.SIGKILL

    def fit(**options):
        return GaussianMixture(
            3,
            covariance_type="tied",
            init_strategy="random",
            num_init=2,
            batch_size=50,
            convergence_tolerance=0,
            random_state=np.random.RandomState(0),
            trainer_params={"max_epochs": 9},
        ).fit(X, **options)

    assert_same_fit(fit(ckpt_path=os.fspath(tmp_path / "last.ckpt")), fit())


@pytest.mark.parametrize("content", [b"", b"a text, and no checkpoint", b"PK\x03\x04 and no more"])
def test_another_file_is_refused(X, tmp_path, content):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match="other is damaged, or not a checkpoint that Lightning"):
        mixture().fit(X, ckpt_path=tmp_path / "other")


def test_a_checkpoint_of_another_module_is_refused(X, tmp_path):
    torch.save({"state_dict": {"weight": torch.ones(2)}}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="another Lightning module"):
        mixture().fit(X, ckpt_path=tmp_path / "other.ckpt")


def test_types_of_covariances_with_equal_shapes_are_told_apart(X, tmp_path):
    options = {"n_components": 3, "random_state": 0}
    saved = checkpointing(tmp_path)
    mixture(**options, covariance_type="tied", trainer_params=saved).fit(X)
    with pytest.raises(ValueError, match="of type tied, but this fit has covariances of type diag"):
        mixture(**options, covariance_type="diag").fit(X, ckpt_path=tmp_path / "epoch=1.ckpt")


def test_an_iteration_that_was_broken_off_is_not_counted(X, tmp_path):
    class Break(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.current_epoch == 4 and batch_idx == 2:
                trainer.save_checkpoint(tmp_path / "broken.ckpt")
                raise Interrupted

    options = {"random_state": 0, "batch_size": 50}
    with pytest.raises(Interrupted):
        mixture(**options, trainer_params=checkpointing(tmp_path, Break())).fit(X)
    resumed = mixture(**options).fit(X, ckpt_path=tmp_path / "broken.ckpt")
    assert_same_fit(resumed, mixture(**options).fit(X))


@pytest.mark.parametrize("batch_size", [None, 50])
@pytest.mark.parametrize("options", [{}, {"enable_checkpointing": True}, {"callbacks": [Stop(99)]}])
def test_a_limit_of_steps_is_one_of_iterations(X, tmp_path, batch_size, options):
    params = {"max_steps": 3, "default_root_dir": tmp_path, **options}
    limited = mixture(random_state=0, batch_size=batch_size, trainer_params=params).fit(X)
    assert_same_fit(limited, mixture(random_state=0, batch_size=batch_size, max_iter=3).fit(X))


def test_a_last_checkpoint_that_is_not_there_is_told_of(X, tmp_path):
    for enable_checkpointing in (False, True):
        params = {"enable_checkpointing": enable_checkpointing, "default_root_dir": tmp_path}
        with pytest.warns(UserWarning, match="there is no last checkpoint available"):
            mixture(random_state=0, trainer_params=params).fit(X, ckpt_path="last")


def test_a_metric_that_nobody_logs_is_told_of(X, tmp_path):
    callback = ModelCheckpoint(tmp_path, monitor="nlll")
    params = {"enable_checkpointing": True, "callbacks": [callback]}
    with pytest.warns(UserWarning, match="could not find the monitored key"):
        mixture(random_state=0, trainer_params=params).fit(X)


def test_a_directory_that_is_not_empty_is_nothing_to_warn_of(X, tmp_path):
    for _ in range(2):
        mixture(random_state=0, trainer_params=checkpointing(tmp_path)).fit(X)


def test_printing_changes_nothing_for_callbacks(X, tmp_path, capsys):
    def fit(verbose):
        stopping = EarlyStopping("nll", patience=2, min_delta=1e-3)
        best = ModelCheckpoint(tmp_path / str(verbose), filename="{nll}", monitor="nll")
        params = {"enable_checkpointing": True, "callbacks": [stopping, best]}
        options = {"init_params": "random_from_data", "max_iter": 60, "n_init": 4}
        fitted = mixture(
            random_state=5, trainer_params=params, verbose=verbose, verbose_interval=1, **options
        ).fit(X)
        return fitted, best.best_model_score

    (silent, best), (told, best_told) = fit(0), fit(1)
    assert_same_fit(told, silent)
    assert best_told == best
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("Initialization") and line[-1].isdigit()] == [
        f"Initialization {i}" for i in range(4)
    ]
    assert f"  Iteration {told.n_iter_}" in lines


class Unwelcome:
    """Runs something where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_nothing_in_a_checkpoint_is_run(X, tmp_path):
    content = {"state_dict": {"_extra_state": 1}, "more": Unwelcome(tmp_path / "made")}
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="not a checkpoint that Lightning has saved"):
        mixture().fit(X, ckpt_path=tmp_path / "other.ckpt")
    assert not (tmp_path / "made").exists()


def test_a_limit_of_steps_leaves_repeated_iterations_out():
    X = np.random.default_rng(0).normal(size=(20_001, 2))
    X[1] = 1e4
    options = {"init_params": "random_from_data", "random_state": 0}
    limited = mixture(**options, trainer_params={"max_steps": 4}).fit(X)
    assert_same_fit(limited, mixture(**options, max_iter=4).fit(X))


class StopInMidPass(pl.Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if trainer.current_epoch == 3 and batch_idx == 1:
            trainer.should_stop = True


@pytest.mark.parametrize("in_pieces", [False, True])
def test_a_pass_that_is_broken_off_is_no_iteration(X, in_pieces):
    data = DataLoader(TensorDataset(torch.from_numpy(X)), batch_size=50) if in_pieces else X
    options = {"random_state": 0, "batch_size": 50}
    stopped = mixture(**options, trainer_params={"callbacks": [StopInMidPass()]}).fit(data)
    expected = mixture(**options, max_iter=3).fit(data)
    for name in ("weights_", "means_", "covariances_", "lower_bounds_"):
        np.testing.assert_array_equal(getattr(stopped, name), getattr(expected, name), name)


def test_steps_that_change_nothing_are_nothing_to_warn_of(X, tmp_path):
    callback = ModelCheckpoint(tmp_path, save_top_k=-1, every_n_train_steps=1)
    params = {"enable_checkpointing": True, "callbacks": [callback]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ConvergenceWarning)
        mixture(random_state=0, trainer_params=params).fit(X)
    assert len(list(tmp_path.glob("*.ckpt"))) > 0
