"""Pixel conventions, pinned by hand-computed answers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from draggan.geometry import (
    Grid,
    Windows,
    cells_inside,
    cover,
    crop,
    disc_offsets,
    fixed_cells,
    inside,
    sample,
    square_offsets,
)
from torch_utils.transfer import copy_to, to_device


def test_pixel_centres_meet_cell_centres_where_four_pixels_make_a_cell():
    grid = Grid(size=(8, 8), scale=(0.25, 0.25))
    points = torch.tensor([[1.5, 1.5], [5.5, 1.5], [0.0, 31.0]])
    assert grid.to_cells(points).tolist() == [[0, 0], [1, 0], [-0.375, 7.375]]


def test_a_margin_shifts_cells():
    grid = Grid(size=(28, 28), scale=(0.25, 0.25), margin=10)
    assert grid.to_cells(torch.tensor([1.5, 1.5])).tolist() == [10, 10]


@given(st.floats(-10, 600), st.floats(-10, 600), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([0.0, 10.0]))
def test_to_pixels_inverts_to_cells(x, y, scale, margin):
    grid = Grid(size=(64, 64), scale=(scale, scale / 2), margin=margin)
    point = torch.tensor([x, y])
    assert torch.allclose(grid.to_pixels(grid.to_cells(point)), point, atol=1e-3)


@pytest.mark.parametrize("size", [(32, 32), (32, 16)])
def test_sampling_the_native_map_equals_indexing_the_resized_one_up_to_the_last_pixel(size):
    features = torch.randn(1, 5, size[0] // 4, size[1] // 4)
    resized = F.interpolate(features, size=size, mode="bilinear", align_corners=False)[0]
    y, x = torch.meshgrid(torch.arange(size[0]), torch.arange(size[1]), indexing="ij")
    points = torch.stack([x, y], -1).float()
    grid = Grid(size=features.shape[-2:], scale=(0.25, 0.25))
    torch.testing.assert_close(sample(features, grid, points), resized.permute(1, 2, 0), atol=1e-5, rtol=1e-5)


def test_sampling_is_differentiable_in_points_and_features():
    features = torch.randn(1, 2, 6, 6, dtype=torch.float64, requires_grad=True)
    points = torch.tensor([[3.3, 4.1], [10.2, 9.7]], dtype=torch.float64, requires_grad=True)
    grid = Grid(size=(6, 6), scale=(0.5, 0.5))
    assert torch.autograd.gradcheck(lambda f, p: sample(f, grid, p), (features, points))


def test_inside_includes_the_first_and_the_last_pixel():
    points = torch.tensor([[0.0, 0.0], [15.0, 31.0], [15.1, 0.0], [-0.1, 0.0], [0.0, 31.5]])
    assert inside(points, (32, 16)).tolist() == [True, True, False, False, False]


def test_the_disc_is_open_and_starts_at_its_centre():
    assert len(disc_offsets(3)) == 25
    assert len(disc_offsets(2)) == 9
    assert disc_offsets(3)[0].tolist() == [0, 0]


def test_the_search_window_is_a_closed_square_nearest_first():
    window = square_offsets(12)
    assert len(window) == 25 * 25
    assert (window.norm(dim=-1).diff() >= 0).all()


def test_a_fixed_cell_is_the_share_of_its_fixed_pixels():
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[0, 0] = False
    mask[:, 4:] = False
    fixed = fixed_cells(mask, Grid(size=(2, 2), scale=(0.25, 0.25)))
    assert fixed.tolist() == [[1 / 16, 1], [0, 1]]


def test_the_margin_is_not_fixed():
    fixed = fixed_cells(torch.zeros(8, 8, dtype=torch.bool), Grid(size=(8, 8), scale=(0.25, 0.25), margin=3))
    expected = np.zeros((8, 8))
    expected[3:5, 3:5] = 1
    assert np.array_equal(fixed.numpy(), expected)


def test_a_window_that_sticks_out_is_filled_with_zeros():
    features = torch.arange(12.0).reshape(1, 1, 3, 4) + 1
    windows = Windows(((-1, -1), (2, 3), (9, 9)), (2, 2))
    assert crop(features, windows)[:, 0].tolist() == [[[0, 0], [0, 1]], [[12, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert cells_inside(windows, (3, 4), torch.device("cpu"))[:, 0].flatten(1).sum(1).tolist() == [1, 1, 0]


@given(
    st.lists(st.tuples(st.integers(0, 127), st.integers(0, 63)), min_size=1, max_size=20),
    st.floats(0, 20),
    st.sampled_from([0.0, 10.0]),
)
def test_sampling_in_covering_windows_equals_sampling_the_map(points, reach, margin):
    torch.manual_seed(0)
    pad = int(2 * margin)
    grid = Grid(size=(16 + pad, 32 + pad), scale=(0.25, 0.25), margin=margin)
    features = torch.randn(1, 2, *grid.size)
    handles = torch.tensor(points).float()
    windows, member = cover(handles, reach, grid)
    assert windows.inside(grid.size)
    around = handles[:, None] + reach * torch.tensor([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])
    around = around.clamp(torch.zeros(2), torch.tensor([127.0, 63.0]))
    local = sample(crop(features, windows), grid, around, windows, member[:, None].expand(-1, 4))
    torch.testing.assert_close(local, sample(features, grid, around), atol=1e-5, rtol=1e-5)


def test_near_points_share_a_window_and_far_ones_do_not():
    grid = Grid(size=(128, 128), scale=(0.25, 0.25))
    near, _ = cover(torch.tensor([[100.0, 100.0], [104.0, 100.0], [100.0, 108.0]]), 15, grid)
    far, member = cover(torch.tensor([[20.0, 20.0], [480.0, 480.0], [24.0, 20.0]]), 15, grid)
    assert len(near) == 1
    assert len(far) == 2
    assert member.tolist() == [0, 1, 0]


@pytest.mark.parametrize(("kind", "expected"), [("cuda", ["page-locked", True]), ("mps", [False]), ("cpu", [True])])
def test_a_copy_to_a_device_waits_only_where_it_must(kind, expected):
    asked = []

    class OnHost(torch.Tensor):
        def pin_memory(self):
            asked.append("page-locked")
            return self

        def to(self, device, *, non_blocking):
            asked.append(non_blocking)
            return self

    class OnDevice(OnHost):
        @property
        def device(self):
            return torch.device(kind)

        def copy_(self, source, *, non_blocking):
            asked.append(non_blocking)
            return self

    values = torch.zeros(1).as_subclass(OnHost)
    to_device(values, torch.device(kind))
    assert asked == expected
    asked.clear()
    copy_to(torch.zeros(1).as_subclass(OnDevice), values)
    assert asked == expected
    asked.clear()
    to_device(torch.zeros(1).as_subclass(OnDevice), torch.device(kind))
    assert asked == expected[-1:]  # what is there already is in no memory of the host
