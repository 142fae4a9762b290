import weakref
from types import SimpleNamespace

import pytest
import torch

from sklearn_torch_gmm.core import processor
from sklearn_torch_gmm.core.workspace import (
    ACCELERATOR_CHUNK_BYTES,
    KEPT_BYTES,
    KEPT_FOR_ONE_PURPOSE,
    Workspace,
    in_lanes,
    is_wide,
    subtract_transposed,
)

CPU = torch.device("cpu")


def test_chunk_fills_its_memory():
    workspace = Workspace(torch.float64, CPU, chunk_bytes=80_000)
    # 80,000 bytes hold 10,000 values of 8 bytes: 100 rows of 100 values.
    assert workspace.rows_per_chunk(100) == 100


def test_narrower_values_leave_room_for_more_rows():
    assert Workspace(torch.float32, CPU, chunk_bytes=80_000).rows_per_chunk(100) == 200


@pytest.mark.parametrize("values_per_row", [10**4, 10**9])
def test_chunk_has_rows_enough_to_be_worth_a_call(values_per_row):
    assert Workspace(torch.float64, CPU, chunk_bytes=80_000).rows_per_chunk(values_per_row) == 64


def test_accelerators_get_larger_chunks():
    on_processor = Workspace(torch.float64, CPU).chunk_bytes
    on_accelerator = Workspace(torch.float64, torch.device("cuda")).chunk_bytes
    assert on_processor == processor.chunk_bytes()
    assert on_accelerator == ACCELERATOR_CHUNK_BYTES > on_processor


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tensors_have_the_shape_asked_for_and_the_type_of_the_workspace(dtype):
    taken = Workspace(dtype, CPU).take("logits", 3, 5)
    assert taken.shape == (3, 5)
    assert taken.is_contiguous()
    assert taken.dtype == dtype


def test_memory_is_used_again_for_the_same_or_a_smaller_size():
    workspace = Workspace(torch.float64, CPU)
    first = workspace.take("logits", 3, 5)
    assert workspace.take("logits", 5, 3).data_ptr() == first.data_ptr()
    assert workspace.take("logits", 2, 2).data_ptr() == first.data_ptr()
    assert workspace.take("logits", 3, 5).data_ptr() == first.data_ptr()


def test_memory_grows_for_a_larger_size_and_stays_large():
    workspace = Workspace(torch.float64, CPU)
    workspace.take("logits", 2)
    large = workspace.take("logits", 100)
    assert large.shape == (100,)
    workspace.take("logits", 2)
    assert workspace.take("logits", 100).data_ptr() == large.data_ptr()


def test_names_share_no_memory():
    workspace = Workspace(torch.float64, CPU)
    workspace.take("logits", 4).fill_(1.0)
    workspace.take("features", 4).fill_(2.0)
    assert workspace.take("logits", 4).tolist() == [1.0] * 4


@pytest.mark.parametrize("rows", [0, 1, 63, 5000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_rows_are_centred_transposed_and_cast_at_once(rows, dtype):
    # 5,000 rows of 30 values are transposed in three parts.
    X = torch.randn(rows, 30, dtype=dtype, generator=torch.Generator().manual_seed(0))
    shift = torch.arange(30, dtype=torch.float64)
    out = torch.full((30, rows), torch.nan, dtype=torch.float64)
    subtract_transposed(X, shift.unsqueeze(-1), out)
    torch.testing.assert_close(out, X.to(torch.float64).T - shift.unsqueeze(-1), rtol=0, atol=0)


@pytest.mark.parametrize("take", [Workspace.take, lambda *args: Workspace.keep(*args)[0]])
def test_released_memory_is_given_back(take):
    workspace = Workspace(torch.float64, CPU)
    taken = take(workspace, "logits", 3, 5)
    memory = weakref.ref(taken if taken._base is None else taken._base)
    del taken
    assert memory() is not None
    workspace.release()
    assert memory() is None


def test_what_is_kept_stays_as_it_is():
    workspace = Workspace(torch.float64, CPU)
    kept, is_known = workspace.keep(("full", 0), 2, 3)
    assert (kept.shape, kept.dtype, is_known) == ((2, 3), torch.float64, False)
    kept.fill_(1.0)
    workspace.take("features", 2, 3).fill_(2.0)
    workspace.keep(("full", 2), 2, 3)[0].fill_(3.0)
    again, is_known = workspace.keep(("full", 0), 2, 3)
    assert is_known
    assert again.tolist() == [[1.0] * 3] * 2


def test_fits_what_takes_no_more_than_a_chunk():
    workspace = Workspace(torch.float64, CPU, chunk_bytes=80)
    assert workspace.fits(10)
    assert not workspace.fits(11)
    assert Workspace(torch.float32, CPU, chunk_bytes=80).fits(20)


def test_processors_have_a_lane_for_each_thread(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    assert Workspace(torch.float64, CPU).num_lanes == 3
    assert Workspace(torch.float64, torch.device("cuda")).num_lanes == 1
    assert Workspace(torch.float64, CPU, num_lanes=2).num_lanes == 2


@pytest.mark.parametrize("by_component", [True, False])
@pytest.mark.parametrize("num_lanes", [1, 3])
def test_products_are_added_however_the_sums_lie(by_component, num_lanes, monkeypatch):
    monkeypatch.setattr(processor, "sums_by_component", lambda: by_component)
    workspace = Workspace(torch.float64, CPU)
    sums = workspace.new_sums(4, 5).unsqueeze(0)
    if num_lanes > 1:
        workspace.take("sums", num_lanes, 4, 5).fill_(torch.nan)
        sums = workspace.take_sums(num_lanes, 4, 5)
    assert sums.shape == (num_lanes, 4, 5)
    generator = torch.Generator().manual_seed(0)
    responsibilities = torch.randint(0, 9, (num_lanes, 4, 70), generator=generator).double()
    features = torch.randint(-9, 9, (num_lanes, 5, 70), generator=generator).double()
    for _ in range(2):
        workspace.add_product(sums, responsibilities, features)
    # Products and sums of small integers are exact.
    wanted = 2 * torch.einsum("tkn,tpn->tkp", responsibilities, features)
    assert torch.equal(sums, wanted)
    assert sums[0].is_contiguous() == by_component


@pytest.mark.parametrize("by_component", [True, False])
def test_some_components_are_added_to_where_they_lie(by_component, monkeypatch):
    monkeypatch.setattr(processor, "sums_by_component", lambda: by_component)
    workspace = Workspace(torch.float64, CPU)
    sums = workspace.take_sums(2, 4, 5)
    workspace.add_product(sums[:, 1:3], torch.ones(2, 2, 7).double(), torch.ones(2, 5, 7).double())
    assert sums.sum((0, 2)).tolist() == [0.0, 70.0, 70.0, 0.0]


def test_accelerators_keep_the_order_of_moments():
    assert not Workspace(torch.float64, torch.device("cuda")).sums_by_component


@pytest.mark.parametrize(
    ("by_component", "dtype", "expected"),
    [(True, torch.float64, 36), (True, torch.float32, 34), (False, torch.float64, 34)],
)
def test_more_moments_are_added_where_that_is_faster(by_component, dtype, expected, monkeypatch):
    monkeypatch.setattr(processor, "sums_by_component", lambda: by_component)
    assert Workspace(dtype, CPU).fast_length(34, 16) == expected


@pytest.mark.parametrize("order", ["rows", "features"])
def test_several_lanes_are_transposed_at_once(order):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(3 * 2000, 40, dtype=torch.float64, generator=generator)
    shift = torch.arange(40, dtype=torch.float64).unsqueeze(-1)
    wanted = torch.stack([part.T - shift for part in rows.split(2000)])
    if order == "features":
        rows = rows.T.contiguous().T
    out = torch.empty(3, 40, 2000, dtype=torch.float64)
    subtract_transposed(rows.unflatten(0, (3, -1)), shift, out)
    assert torch.equal(out, wanted)


class TestRoom:
    @pytest.fixture
    def workspace(self, monkeypatch):
        monkeypatch.setattr("sklearn_torch_gmm.core.workspace.KEPT_BYTES", 100)
        return Workspace(torch.float64, CPU)

    def test_is_promised_once(self, workspace):
        assert workspace.room_for("full", 100)
        assert workspace.room_for("full", 100)

    def test_is_the_first_size_that_fits(self, workspace):
        assert workspace.room_for("full", 120, 90, 80) == 90
        assert workspace.room_for("full", 80) == 90
        assert workspace.room_for("diag", 120, 11) == 0

    def test_is_what_others_have_left(self, workspace):
        assert workspace.room_for("full", 60)
        assert not workspace.room_for("diag", 41)
        assert workspace.room_for("tied", 40)
        # As it was said before.
        assert not workspace.room_for("diag", 0)

    def test_is_limited_for_each_of_them(self, workspace, monkeypatch):
        monkeypatch.setattr("sklearn_torch_gmm.core.workspace.KEPT_FOR_ONE_PURPOSE", 60)
        assert not workspace.room_for("full", 61)
        assert workspace.room_for("diag", 60)
        assert workspace.room_for("tied", 40)

    def test_is_there_again_after_a_release(self, workspace):
        assert workspace.room_for("full", 100)
        workspace.release()
        assert workspace.room_for("diag", 100)


class TestByFeature:
    def test_each_feature_of_a_few_rows_lies_in_one_piece(self):
        rows = torch.arange(6.0).view(3, 2)
        ordered = Workspace(torch.float64, CPU).by_feature(0, rows, 3)
        assert torch.equal(ordered, rows)
        assert ordered.T.is_contiguous()
        assert ordered.data_ptr() != rows.data_ptr()

    def test_rows_are_copied_once(self):
        workspace = Workspace(torch.float64, CPU)
        parts = torch.arange(12.0).view(2, 3, 2)
        first = [workspace.by_feature(number, rows, 6) for number, rows in enumerate(parts)]
        again = [workspace.by_feature(number, rows, 6) for number, rows in enumerate(parts)]
        for one, other, rows in zip(first, again, parts, strict=True):
            assert one is other
            assert torch.equal(one, rows)

    def test_rows_that_lie_so_already_are_not_copied(self):
        rows = torch.arange(6.0).view(2, 3).T
        assert Workspace(torch.float64, CPU).by_feature(0, rows, 3) is rows

    def test_rows_on_other_devices_are_not_copied(self):
        rows = torch.empty(3, 2, device="meta")
        assert Workspace(torch.float64, rows.device).by_feature(0, rows, 3) is rows

    def test_many_rows_are_not_copied(self):
        rows = torch.zeros(2, 4)
        most = KEPT_FOR_ONE_PURPOSE // (4 * rows.itemsize)
        assert Workspace(torch.float64, CPU).by_feature(0, rows, most + 1) is rows
        assert Workspace(torch.float64, CPU).by_feature(0, rows, most) is not rows

    def test_rows_are_not_copied_where_others_have_taken_the_room(self):
        workspace = Workspace(torch.float64, CPU)
        assert workspace.room_for("tied", KEPT_FOR_ONE_PURPOSE)
        assert workspace.room_for("spherical", KEPT_BYTES - KEPT_FOR_ONE_PURPOSE)
        rows = torch.zeros(2, 4)
        assert workspace.by_feature(0, rows, 2) is rows

    @pytest.mark.parametrize("place", [slice(None), slice(100, 900)], ids=["all", "a part"])
    def test_subtraction_does_not_mind_the_order(self, place):
        rows = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
        shift = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
        wanted = rows[place].double().T - shift
        for ordered in (rows, rows.T.contiguous().T):
            out = torch.empty_like(wanted)
            subtract_transposed(ordered[place], shift, out=out)
            assert torch.equal(out, wanted)


@pytest.mark.parametrize(
    ("num_moments", "num_differences", "ratio", "expected"),
    [
        (65, 16 * 32, 12, False),  # diagonal covariances of 32 features
        (2_145, 2 * 64, 12, True),  # full ones of 64 features, two components
        (2_145, 3 * 64, 12, False),
        (2_145, 16 * 64, 2, True),  # a prediction
        (2_145, 17 * 64, 2, False),
        (500_000, 100 * 1_000, 12, False),
        (600_000, 100 * 1_000, 12, True),  # 300 MB for 64 rows
    ],
)
def test_moments_are_written_out_where_that_is_cheaper(
    num_moments, num_differences, ratio, expected
):
    assert is_wide(num_moments, num_differences, ratio=ratio) is expected


@pytest.mark.parametrize(
    ("num_components", "length", "expected"),
    [
        (16, 1 + 560, 53),  # 5 tiles, and 264 wanted
        (128, 128, 264),
        (129, 128, 132),
        (1024, 8385, 1),  # 8 · 66 tiles
    ],
)
def test_lanes_give_each_multiprocessor_two_tiles(monkeypatch, num_components, length, expected):
    properties = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    workspace = Workspace(torch.float64, torch.device("cuda"))
    assert workspace.lanes_of_sums(num_components, length) == expected
    assert Workspace(torch.float64, CPU, num_lanes=3).lanes_of_sums(num_components, length) == 3


@pytest.mark.parametrize("num_rows", [0, 1, 127, 128, 1000, 100_000])
def test_lanes_of_a_multiple_of_rows_share_all_rows(num_rows):
    chunks = list(in_lanes(num_rows, 30_000, 53, 300, 128))
    assert sum(place.stop - place.start for place, _ in chunks) == num_rows
    for place, lanes in chunks:
        rows = place.stop - place.start
        assert rows % lanes == 0
        assert lanes == 1 or rows // lanes % 128 == 0
    # The remainder is one chunk of its own.
    assert len(chunks) <= num_rows // 30_000 + 3
