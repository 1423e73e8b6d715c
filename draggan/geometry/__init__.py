"""Pixels, cells and windows: how a picture, a feature map and the parts of it in use lie over each other."""

from draggan.geometry.coordinates import Grid, disc_offsets, fixed_cells, inside, moved_inside, square_offsets
from draggan.geometry.sampling import FeatureSampler, WindowSampler, sample
from draggan.geometry.windows import (
    Box,
    IndexedCrop,
    Rectangle,
    SlicedCrop,
    WindowCrop,
    Windows,
    cells_inside,
    cheapest_grouping,
    cover,
    crop,
    nonzero_support,
)

__all__ = [
    "Box",
    "FeatureSampler",
    "Grid",
    "IndexedCrop",
    "Rectangle",
    "SlicedCrop",
    "WindowCrop",
    "WindowSampler",
    "Windows",
    "cells_inside",
    "cheapest_grouping",
    "cover",
    "crop",
    "disc_offsets",
    "fixed_cells",
    "inside",
    "moved_inside",
    "nonzero_support",
    "sample",
    "square_offsets",
]
