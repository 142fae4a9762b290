"""Many mixtures in the same products give what each gives alone."""

import copy

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import multivariate_normal

from sklearn_torch_gmm.core import fast_step
from sklearn_torch_gmm.core import workspace as workspace_module
from sklearn_torch_gmm.core.covariance import STRUCTURES, get_structure
from sklearn_torch_gmm.core.fast_step import FastPass
from sklearn_torch_gmm.core.moments import Moments
from sklearn_torch_gmm.core.workspace import Workspace
from tests.core.steps import E_STEPS, as_parameters, make_e_step, mixture_of, tensor

TYPES = sorted(STRUCTURES)
SIZES = [(1, 2), (3, 5), (2, 3)]
"""Starts and components of the steps that share a pass."""


def mixtures(rng, name):
    return [
        as_parameters(name, *(mixture_of(rng, name, components) for _ in range(restarts)))
        for restarts, components in SIZES
    ]


def steps_for(rng, name, extents=None, *, scatter_is_known=True, **options):
    structure, centre = get_structure(name), tensor(rng.standard_normal(2))
    is_given = structure.has_pooled_scatter and scatter_is_known
    scatter = centre.new_zeros(1, 2, 2) if is_given else None
    return [
        make_e_step(
            "fast", parameters, centre, structure, extents=extents, scatter=scatter, **options
        )
        for parameters in mixtures(rng, name)
    ]


@pytest.fixture
def rows(rng):
    return tensor(3.0 * rng.standard_normal((500, 2)))


def assert_same_moments(steps, expected):
    for step, alone in zip(steps, expected, strict=True):
        # Sums of 500 rows; the products may add in another order.
        torch.testing.assert_close(vars(step.moments), vars(alone.moments), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("small_product", [0, 10**9], ids=["one product", "a product each"])
@pytest.mark.parametrize("most_components", [1, 6, 256])
def test_steps_that_share_a_pass_give_what_each_gives_alone(
    rng, rows, monkeypatch, name, weighted, small_product, most_components
):
    weights = tensor(rng.uniform(0.0, 2.0, 500)) if weighted else None
    state = rng.bit_generator.state
    alone = steps_for(rng, name)
    for step in alone:
        step.add(rows, weights)

    monkeypatch.setattr(fast_step, "SMALL_PRODUCT", small_product)
    monkeypatch.setattr(fast_step, "MOST_COMPONENTS", most_components)
    rng.bit_generator.state = state
    # About ninety rows a chunk.
    together = steps_for(rng, name, chunk_bytes=20_000)
    shared = FastPass(together)
    for part in (slice(0, 123), slice(123, 500)):
        shared.add(rows[part], None if weights is None else weights[part])
    assert_same_moments(together, alone)
    for step, expected in zip(together, alone, strict=True):
        torch.testing.assert_close(
            step.log_likelihood(step.moments), expected.log_likelihood(expected.moments)
        )


@pytest.fixture
def short_lanes(monkeypatch):
    monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 0)
    monkeypatch.setattr(workspace_module, "LEAST_ROWS", 8)


@pytest.mark.usefixtures("short_lanes")
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("num_lanes", [2, 3, 7])
def test_lanes_change_nothing(rng, rows, name, weighted, num_lanes):
    weights = tensor(rng.uniform(0.0, 2.0, 500)) if weighted else None
    state = rng.bit_generator.state
    found = []
    for lanes in (1, num_lanes):
        rng.bit_generator.state = state
        # About ninety rows a chunk; what is left over in the end is not a multiple of the lanes.
        steps = steps_for(
            rng,
            name,
            chunk_bytes=20_000,
            num_lanes=lanes,
            scatter_is_known=False,
            with_certainty=True,
            extents=torch.zeros(2, dtype=torch.float64),
        )
        shared = FastPass(steps)
        for part in (slice(0, 123), slice(123, 500)):
            shared.add(rows[part], None if weights is None else weights[part])
        found.append(steps)
    one_lane, several = found
    assert_same_moments(several, one_lane)
    assert torch.equal(several[0].extents, one_lane[0].extents)


@pytest.mark.usefixtures("short_lanes")
@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("num_lanes", [1, 2])
@pytest.mark.parametrize("resident_rows", [None, 500])
@pytest.mark.parametrize("most_components", [6, 256])
def test_moments_that_only_fill_up_a_product_change_nothing(
    rng, rows, monkeypatch, name, num_lanes, resident_rows, most_components
):
    monkeypatch.setattr(fast_step, "MOST_COMPONENTS", most_components)
    state = rng.bit_generator.state
    found = []
    for more in (0, 3):
        rng.bit_generator.state = state
        monkeypatch.setattr(
            Workspace, "fast_length", lambda self, length, _, more=more: length + more
        )
        steps = steps_for(rng, name, chunk_bytes=20_000, num_lanes=num_lanes)
        # What is left in the memory of an earlier pass must not matter.
        steps[0].workspace.take("features", 10_000).fill_(torch.nan)
        steps[0].workspace.take("sums", 10_000).fill_(torch.nan)
        FastPass(steps, resident_rows=resident_rows).add(rows)
        found.append(steps)
    without, with_more = found
    assert_same_moments(with_more, without)
    assert with_more[0].moments.sums.shape == without[0].moments.sums.shape


@pytest.mark.usefixtures("short_lanes")
def test_kept_moments_may_be_more_than_later_passes_would_want(rng, rows, monkeypatch):
    steps = steps_for(rng, "diag", num_lanes=2)
    more = [3, 0]
    monkeypatch.setattr(Workspace, "fast_length", lambda self, length, _: length + more[0])
    FastPass(steps, resident_rows=500).add(rows)
    once = copy.deepcopy([step.moments for step in steps])
    del more[0]
    FastPass(steps, resident_rows=500).add(rows)
    for step, first in zip(steps, once, strict=True):
        torch.testing.assert_close(step.moments.sums, first.sums)


@pytest.mark.usefixtures("short_lanes")
@pytest.mark.parametrize(
    ("num_rows", "num_lanes", "expected"),
    [
        # Chunks of ten rows' memory have the fewest rows that a chunk has, 64.
        (128, 1, [(0, 64, 1), (64, 128, 1)]),
        (128, 2, [(0, 64, 2), (64, 128, 2)]),
        (100, 3, [(0, 63, 3), (63, 99, 3), (99, 100, 1)]),
        # No lane with fewer than eight rows here.
        (30, 8, [(0, 30, 3)]),
        (7, 2, [(0, 7, 1)]),
        (0, 2, []),
    ],
)
def test_chunks_are_shared_evenly_among_lanes(rng, num_rows, num_lanes, expected):
    steps = steps_for(rng, "full", chunk_bytes=4000, num_lanes=num_lanes)
    places = FastPass(steps[:1])._chunks(num_rows)
    assert [(place.start, place.stop, lanes) for place, lanes in places] == expected


@pytest.mark.usefixtures("short_lanes")
def test_sums_that_would_take_more_than_a_chunk_are_not_kept_for_each_lane(rng):
    # 2 · 3 lanes of 2 · (1 + 5) sums.
    fits, does_not = 8 * 2 * 3 * 12, 8 * 2 * 3 * 12 - 1
    for chunk_bytes, expected in ((fits, 3), (does_not, 1)):
        steps = steps_for(rng, "full", chunk_bytes=chunk_bytes, num_lanes=3)
        assert next(FastPass(steps[:1])._chunks(64))[1] == expected


def test_lanes_may_have_a_small_product_without_the_rows_that_are_left_over(rng, rows, monkeypatch):
    state = rng.bit_generator.state
    alone = steps_for(rng, "full")
    for step in alone:
        step.add(rows[:499])
    rng.bit_generator.state = state
    steps = steps_for(rng, "full", num_lanes=2)
    monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 499 * 6 * 23)
    FastPass(steps).add(rows[:499])
    assert_same_moments(steps, alone)


def test_products_of_few_rows_have_one_lane(rng, rows, monkeypatch):
    steps = steps_for(rng, "full", num_lanes=2)
    monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 500 * 6 * 23 + 1)
    assert list(FastPass(steps)._chunks(500)) == [(slice(0, 500), 1)]
    monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 500 * 6 * 23)
    assert list(FastPass(steps)._chunks(500)) == [(slice(0, 500), 2)]


class TestResidentRows:
    """T(x) of few rows that come again are computed once."""

    @pytest.fixture
    def written(self, monkeypatch):
        written = []
        subtract = fast_step.subtract_transposed

        def spy(rows, shift, out):
            written.append(rows)
            subtract(rows, shift, out)

        monkeypatch.setattr(fast_step, "subtract_transposed", spy)
        return written

    def two_passes(self, rng, batches, name, **options):
        """Over the same batches with other parameters."""
        steps = steps_for(rng, name, **options)[:2]
        for step in steps:
            step.workspace = steps[0].workspace
            one = FastPass([step], resident_rows=sum(map(len, batches)))
            for rows in batches:
                one.add(rows)
        return steps

    @pytest.mark.parametrize("name", TYPES)
    @pytest.mark.parametrize("num_lanes", [1, 2])
    @pytest.mark.parametrize("sizes", [[499], [200, 299]])
    def test_second_pass_finds_them(self, rng, rows, written, monkeypatch, name, num_lanes, sizes):
        monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 0)
        state = rng.bit_generator.state
        batches = rows[:499].split(sizes)
        # About ninety rows a chunk.
        options = {"num_lanes": num_lanes, "chunk_bytes": 20_000}
        found = self.two_passes(rng, batches, name, **options)
        assert sum(part.numel() for part in written) == 499 * 2
        rng.bit_generator.state = state
        expected = steps_for(rng, name, **options)[:2]
        for step, alone in zip(found, expected, strict=True):
            alone.workspace = expected[0].workspace
            for batch in batches:
                alone.add(batch)
            torch.testing.assert_close(
                vars(step.moments), vars(alone.moments), rtol=1e-12, atol=1e-12
            )

    @pytest.mark.parametrize("missing", [0, 1])
    def test_of_many_rows_the_rows_alone_are_kept(self, rng, rows, written, monkeypatch, missing):
        # 500 rows of 1 + 5 moments, and one byte less.
        monkeypatch.setattr(workspace_module, "KEPT_BYTES", 8 * 500 * 6 - missing)
        self.two_passes(rng, [rows], "full")
        assert len(written) == 1 + missing
        strides = {part.stride()[-2:] for part in written}
        assert strides == ({(1, 500)} if missing else {(2, 1)})

    def test_rows_that_may_be_others_are_written_again(self, rng, rows, written):
        step = steps_for(rng, "full")[0]
        FastPass([step], resident_rows=500).add(rows)
        FastPass([step]).add(rows)
        assert len(written) == 2

    def test_lanes_may_change(self, rng, rows, written, monkeypatch):
        """With fewer mixtures a product may have become a small one."""
        monkeypatch.setattr(fast_step, "SMALL_PRODUCT", 500 * 6 * 3)
        first, second = steps_for(rng, "full", num_lanes=2)[:2]
        second.workspace = first.workspace
        for step, lanes in ((first, 1), (second, 2)):
            one = FastPass([step], resident_rows=500)
            assert list(one._chunks(500)) == [(slice(0, 500), lanes)]
            one.add(rows)
        assert len(written) == 1
        expected = copy.copy(second)
        expected.moments = Moments(
            torch.zeros_like(second.moments.sums), torch.zeros_like(second.moments.log_likelihood)
        )
        expected.add(rows)
        torch.testing.assert_close(vars(second.moments), vars(expected.moments))


def test_what_the_data_tell_is_gathered_once_for_all_steps(rng, rows):
    structure, centre = get_structure("tied"), rows.mean(0)
    extents = torch.zeros(2, dtype=torch.float64)
    steps = [
        make_e_step("fast", parameters, centre, structure, extents=extents)
        for parameters in mixtures(rng, "tied")
    ]
    FastPass(steps).add(rows)
    x = rows - centre
    for step in steps:
        torch.testing.assert_close(step.moments.scatter[0], x.T @ x)
    torch.testing.assert_close(extents, x.abs().amax(0), rtol=0, atol=0)


@pytest.mark.parametrize("most_components", [1, 6, 7, 256])
def test_chunks_depend_on_the_components_of_a_group_alone(rng, monkeypatch, most_components):
    monkeypatch.setattr(fast_step, "MOST_COMPONENTS", most_components)
    steps = steps_for(rng, "full", chunk_bytes=2**20)
    # D = 2: 1 and five moments. A mixture is never divided, and the order is kept: 2, 5, 5, 5,
    # 3 and 3 components.
    largest = {1: 5, 6: 6, 7: 7, 256: 23}[most_components]
    assert FastPass(steps).rows_per_chunk == 2**20 // (8 * (6 + 2 * largest))


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("kind", E_STEPS)
def test_certainty_is_the_log_of_the_largest_responsibility(rng, rows, name, kind):
    weights = rng.uniform(0.0, 2.0, 500)
    models = [mixture_of(rng, name) for _ in range(2)]
    parameters = as_parameters(name, *models)
    step = make_e_step(
        kind, parameters, rows.mean(0), get_structure(name), with_certainty=True, chunk_bytes=9000
    )
    step.add(rows, tensor(weights))
    for model, certainty in zip(models, step.moments.certainty, strict=True):
        joint = [
            np.log(weight) + multivariate_normal(mean, matrix).logpdf(rows.numpy())
            for weight, mean, matrix in zip(model.weights, model.means, model.matrices, strict=True)
        ]
        expected = weights @ log_softmax(joint, axis=0).max(0)
        assert certainty.item() == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", TYPES)
@pytest.mark.parametrize("weighted", [False, True])
def test_entropy_from_the_sums_is_that_of_the_responsibilities(rng, rows, name, weighted):
    structure, centre = get_structure(name), rows.mean(0)
    parameters = as_parameters(name, *(mixture_of(rng, name, 4) for _ in range(3)))
    weights = tensor(rng.random(len(rows))) if weighted else None
    direct, short = (
        make_e_step("fast", parameters, centre, structure, with_entropy=with_entropy)
        for with_entropy in (True, False)
    )
    for step in (direct, short):
        step.add(rows, weights)
    assert short.moments.entropy is None
    # 500 rows whose log-densities are of the order of 10 nats.
    expected = direct.entropy(direct.moments)
    torch.testing.assert_close(short.entropy(short.moments), expected, rtol=0, atol=1e-10)
    # Moments may be sums over several processes.
    doubled = Moments(*(2 * part for part in vars(short.moments).values() if part is not None))
    torch.testing.assert_close(short.entropy(doubled), 2 * expected, rtol=0, atol=2e-10)
