"""What makes an iteration fast on a GPU, counted where there is none.

A GPU waits for the host when many small operations are launched, when values are read back, and
when data are moved. All three can be counted on any machine. `docs/gpu.md` reckons with these
numbers.
"""

import os
import pickle
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from sklearn_torch_gmm.core.covariance import STRUCTURES
from sklearn_torch_gmm.core.e_step import SEPARATE_VALUES
from sklearn_torch_gmm.core.fast_step import MOST_COMPONENTS, FastEStep, FastPass
from sklearn_torch_gmm.core.m_step import m_step
from sklearn_torch_gmm.core.parameters import MixtureParameters
from sklearn_torch_gmm.core.workspace import Workspace
from sklearn_torch_gmm.em.iterations import Iterations
from sklearn_torch_gmm.mixture import GaussianMixture
from sklearn_torch_gmm.rows import in_memory as arrays
from sklearn_torch_gmm.rows.in_memory import ArrayRows

TYPES = sorted(STRUCTURES)
OPERATIONS_A_CHUNK = 30
OPERATIONS_BETWEEN_PASSES = 64
META = torch.device("meta")
CPU = torch.device("cpu")

# They change how memory is looked at, and launch nothing.
VIEWS = {
    "_unsafe_view",
    "alias",
    "as_strided",
    "detach",
    "diagonal",
    "expand",
    "permute",
    "select",
    "slice",
    "split",
    "split_with_sizes",
    "squeeze",
    "t",
    "transpose",
    "unbind",
    "unfold",
    "unsqueeze",
    "view",
}


def blobs():
    rng = np.random.default_rng(0)
    return np.vstack([rng.normal(size=(200, 4)), rng.normal(size=(200, 4)) + 3])


def fit_for_four_iterations(covariance_type, restarts):
    GaussianMixture(
        2,
        covariance_type=covariance_type,
        n_init=restarts,
        init_params="random_from_data",
        tol=0.0,
        max_iter=4,
        random_state=0,
    ).fit(blobs())


# One product for all mixtures counts like one for each of them.
PRODUCTS = {"mm": "bmm", "addmm_": "baddbmm_"}


class Operations(TorchDispatchMode):
    """Counts the operations that reach a device, by name."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket.__name__
        if name not in VIEWS:
            self.counts[PRODUCTS.get(name, name)] += 1
        return function(*args, **(kwargs or {}))

    @property
    def total(self):
        return self.counts.total()


def parameters(structure, restarts, components, features, device):
    """Standard normal components, of whose values nothing below depends."""
    shape = (restarts, *structure.covariance_shape(components, features))
    means = torch.zeros(restarts, components, features, dtype=torch.float64, device=device)
    covariances = structure.unit_covariances(means.new_ones(shape))
    return MixtureParameters(
        means.new_full((restarts, components), 1 / components), means, covariances, covariances
    )


def e_step(structure, restarts=1, components=3, features=4, device=META, scatter=None):
    mixtures = parameters(structure, restarts, components, features, device)
    natural = structure.natural_parameters(
        mixtures.log_weights, mixtures.means, mixtures.precisions_cholesky
    )
    centre = torch.zeros(features, dtype=torch.float64, device=device)
    workspace = Workspace(torch.float64, device, num_lanes=1)
    # An accelerator has the order and the length that one maker's processors do not have.
    workspace.sums_by_component = False
    if structure.has_pooled_scatter and scatter is None:
        # It is known from the second iteration on.
        scatter = centre.new_zeros(1, features, features)
    return FastEStep(mixtures, centre, structure, workspace, natural=natural, scatter=scatter)


def operations_of_chunk(structure, *, features=4, device=META, rows=1000, **sizes):
    step = e_step(structure, features=features, device=device, **sizes)
    X = torch.zeros(rows, features, dtype=torch.float64, device=device)
    # The first call makes the indices of a triangle, and the buffers.
    step.add(X)
    with Operations() as operations:
        step.add(X)
    return operations


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("device", [META, CPU], ids=str)
def test_operations_a_chunk_are_few(covariance_type, device):
    operations = operations_of_chunk(STRUCTURES[covariance_type], device=device)
    assert operations.total <= OPERATIONS_A_CHUNK, operations.counts
    assert operations.counts["bmm"] == 1
    assert operations.counts["baddbmm_"] == 1


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("device", [META, CPU], ids=str)
def test_operations_a_chunk_depend_neither_on_components_nor_on_restarts(covariance_type, device):
    structure = STRUCTURES[covariance_type]
    # A CPU normalizes more values than these in separate operations.
    rows = SEPARATE_VALUES // (5 * 20) - 1
    few = operations_of_chunk(structure, device=device, rows=rows)
    many = operations_of_chunk(structure, device=device, rows=rows, restarts=5, components=20)
    assert few.counts == many.counts


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("device", [META, CPU], ids=str)
def test_operations_a_chunk_do_not_depend_on_features(covariance_type, device):
    structure = STRUCTURES[covariance_type]
    few = operations_of_chunk(structure, device=device, rows=100)
    many = operations_of_chunk(structure, device=device, rows=100, features=64)
    assert few.counts == many.counts


@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_chunk_is_all_rows_as_long_as_they_fit(covariance_type):
    """The number of chunks is what multiplies the operations."""
    structure = STRUCTURES[covariance_type]
    step = e_step(structure, components=1024, features=128)
    mixtures, length = 1024, 1 + structure.num_moments(128)
    expected = 256 * 2**20 // (8 * (length + 2 * mixtures))
    assert FastPass([step]).rows_per_chunk == expected


def test_an_accelerator_takes_thousands_of_components_at_once():
    structure = STRUCTURES["diag"]
    many = {"restarts": 40, "components": 100}
    assert operations_of_chunk(structure, **many).counts["bmm"] == 1
    on_cpu = operations_of_chunk(structure, device=CPU, **many)
    assert on_cpu.counts["bmm"] == 40 / (MOST_COMPONENTS // 100)


@pytest.mark.parametrize("covariance_type", TYPES)
def test_operations_of_an_m_step_depend_neither_on_components_nor_on_restarts(covariance_type):
    structure = STRUCTURES[covariance_type]
    counts = []
    for restarts, components in ((1, 3), (5, 20)):
        step = e_step(structure, restarts, components)
        step.add(torch.zeros(1000, 4, dtype=torch.float64, device=META))
        means = step.parameters.means
        m_step(step.moments, step.centre, means, structure, 1e-6)
        with Operations() as operations:
            m_step(step.moments, step.centre, means, structure, 1e-6)
        counts.append(operations.counts)
    assert counts[0] == counts[1]


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("restarts", [1, 4])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_operations_between_two_passes_are_few(monkeypatch, covariance_type, restarts):
    totals = []
    m_step, test = Iterations.m_step, Iterations.test

    def counted_m_step(iterations, *arguments):
        with Operations() as operations:
            numbers = m_step(iterations, *arguments)
        totals.append(operations.total)
        return numbers

    def counted_test(iterations, numbers):
        with Operations() as operations:
            outcome = test(iterations, numbers)
        totals[-1] += operations.total
        return outcome

    monkeypatch.setattr(Iterations, "m_step", counted_m_step)
    monkeypatch.setattr(Iterations, "test", counted_test)
    fit_for_four_iterations(covariance_type, restarts)
    assert len(totals) == 4
    assert max(totals) <= OPERATIONS_BETWEEN_PASSES


class ReadsByHost(TorchFunctionMode):
    """Counts what makes the host wait for a device: values that Python looks at."""

    WAITING = frozenset(
        {
            "__array__",
            "__bool__",
            "__contains__",
            "__float__",
            "__index__",
            "__int__",
            "__iter__",
            "allclose",
            "argwhere",
            "cpu",
            "equal",
            "is_nonzero",
            "item",
            "masked_select",
            "nonzero",
            "numpy",
            "tolist",
            "unique",
        }
    )

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        if name in self.WAITING:
            self.counts[name] += 1
        is_mask = name == "__getitem__" and any(
            isinstance(part, torch.Tensor) and part.dtype == torch.bool
            for part in (args[1] if isinstance(args[1], tuple) else (args[1],))
        )
        self.counts["mask"] += is_mask
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("covariance_type", TYPES)
@pytest.mark.parametrize("restarts", [1, 4])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_an_iteration_reads_back_from_the_device_once(monkeypatch, covariance_type, restarts):
    reads = []
    m_step, test = Iterations.m_step, Iterations.test
    add = Iterations.add

    def counted_add(iterations, *batch):
        with ReadsByHost() as counter:
            add(iterations, *batch)
        reads.append(counter.counts)

    def counted_m_step(iterations, *arguments):
        with ReadsByHost() as counter:
            numbers = m_step(iterations, *arguments)
        reads.append(counter.counts)
        return numbers

    def counted_test(iterations, numbers):
        with ReadsByHost() as counter:
            outcome = test(iterations, numbers)
        reads[-1] += counter.counts
        return outcome

    monkeypatch.setattr(Iterations, "add", counted_add)
    monkeypatch.setattr(Iterations, "m_step", counted_m_step)
    monkeypatch.setattr(Iterations, "test", counted_test)
    fit_for_four_iterations(covariance_type, restarts)
    assert len(reads) == 8
    assert [+counts for counts in reads] == 4 * [Counter(), Counter(tolist=1)]


def test_what_is_counted_as_a_read():
    values = torch.tensor([1.0, 2.0])
    with ReadsByHost() as counter:
        values.tolist()
        values.sum().item()
        if values.sum() > 0:
            values[values > 1]
    assert +counter.counts == Counter(tolist=1, item=1, __bool__=1, mask=1)


class OnHost(torch.Tensor):
    """Rows in host memory that say when they are moved to a GPU, and are not."""

    moved = 0

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        if function is torch.Tensor.to and torch.device(args[1]).type == "cuda":
            OnHost.moved += 1
            return args[0].as_subclass(torch.Tensor)
        return super().__torch_function__(function, types, args, kwargs or {})


@pytest.mark.parametrize("batch_size", [None, 100])
def test_rows_that_fit_on_a_gpu_are_moved_to_it_once(monkeypatch, batch_size):
    monkeypatch.setattr(OnHost, "moved", 0)
    monkeypatch.setattr(arrays, "_free_bytes", lambda device: 2**30)
    source = ArrayRows(torch.from_numpy(blobs()).as_subclass(OnHost))
    batches = source.batches(batch_size, device=torch.device("cuda"))
    for _ in range(5):
        for (rows,) in batches:
            assert type(rows) is torch.Tensor
    assert OnHost.moved == 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_a_fit_asks_for_its_batches_once_and_copies_none_after_that(monkeypatch):
    """What is moved, or put in order, when batches are made is thus so once a fit."""
    asked, places = [], []
    batches, add = ArrayRows.batches, Iterations.add

    def counted(source, *arguments, **options):
        asked.append(source)
        return batches(source, *arguments, **options)

    def placed(iterations, rows, *others):
        places.append(rows.data_ptr())
        add(iterations, rows, *others)

    monkeypatch.setattr(ArrayRows, "batches", counted)
    monkeypatch.setattr(Iterations, "add", placed)
    X = blobs()
    GaussianMixture(2, tol=0.0, max_iter=5, random_state=0).fit(X)
    assert len(asked) == 1
    assert len(places) == 5
    assert len(set(places)) == 1


# -- where there is a GPU -------------------------------------------------------------------------


def gpu(test):
    """A test that needs a CUDA device; skipped, and said so, where there is none."""
    missing = not torch.cuda.is_available()
    return pytest.mark.gpu(pytest.mark.skipif(missing, reason="there is no CUDA device")(test))


@gpu
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_fit_on_a_gpu_gives_what_the_cpu_gives(covariance_type):
    X = blobs()
    params = {"covariance_type": covariance_type, "random_state": 0}
    cpu = GaussianMixture(2, trainer_params={"accelerator": "cpu"}, **params).fit(X)
    cuda = GaussianMixture(2, trainer_params={"accelerator": "cuda"}, **params).fit(X)
    is_double = torch.cuda.get_device_capability() in {(7, 0), (8, 0), (9, 0), (10, 0)}
    rtol = 1e-8 if is_double else 1e-3
    np.testing.assert_allclose(cuda.means_, cpu.means_, rtol=rtol, atol=rtol)
    np.testing.assert_array_equal(cuda.predict(X), cpu.predict(X))


@gpu
@pytest.mark.parametrize("covariance_type", TYPES)
def test_a_tensor_on_a_gpu_is_answered_there(covariance_type):
    X = torch.from_numpy(blobs()).cuda()
    mixture = GaussianMixture(2, covariance_type=covariance_type, random_state=0).fit(X)
    for answer in (mixture.predict(X), mixture.predict_proba(X), mixture.score_samples(X)):
        assert answer.device == X.device
    proba = mixture.predict_proba(X)
    torch.testing.assert_close(proba.sum(1), torch.ones_like(proba[:, 0]))


@gpu
def test_a_mixture_fitted_on_a_gpu_is_unpickled_without_one(tmp_path):
    X = blobs()
    mixture = GaussianMixture(2, trainer_params={"accelerator": "cuda"}, random_state=0).fit(X)
    path = tmp_path / "mixture.pickle"
    path.write_bytes(pickle.dumps((mixture, X, mixture.predict(X))))
    program = (
        "import pickle, sys, torch; assert not torch.cuda.is_available();"
        "mixture, X, labels = pickle.load(open(sys.argv[1], 'rb'));"
        "assert (mixture.predict(X) == labels).all()"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run([sys.executable, "-c", program, str(path)], check=True, env=environment)
