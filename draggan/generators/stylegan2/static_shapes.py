"""The analytic pass with static shapes: one `Layout` for windows wherever they are; positions are data on the device.

Fourth in the stack, above `analytic`, whose arithmetic it keeps; for one window there is some 10 % more of it. It is
what `cuda_graphs` records: a recorded pass fixes every shape, address and number. So here

* windows are planned with the sizes that suffice wherever they are (`windows.plan_layers` with ``anywhere``);
* everything about them is an index, a mask or noise in a fixed buffer, and computed on the device from the first cells
  of the windows of the last layer alone. Those of the layers below follow by subtracting and halving, so for some a and
  j they are ``(o - a) >> j``; where windows begin in the filtered maps of a layer that doubles the size is
  ``1 + ((o - a) >> j) % 2``;
* no value is looked at: gradients are taken from whole windows, and what is outside a map is multiplied by zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draggan.generators.stylegan2.analytic import (
    Layer,
    Layout,
    Placement,
    feature_type,
    filtered_size,
    is_supported,
    weights_of,
)
from draggan.generators.stylegan2.networks import SynthesisNetwork
from draggan.generators.stylegan2.windows import LayerPlan, plan_layers
from draggan.geometry import IndexedCrop, Rectangle, WindowCrop, Windows
from torch_utils.transfer import copy_to, to_device

__all__ = ["MovableLayout", "movable_layout_for"]


@dataclass(frozen=True)
class _Cells:
    """Cells of one window per window o of the last layer, row by row, on a map.

    The first is ``(o - shift) >> halvings``, or with ``parity`` 1 plus the last bit of that.

    Attributes:
        size: height and width of the windows.
        map_size: height and width of the map; cells outside take the place of the nearest on it.
        base: the number of the first map's first cell.
        map_stride: how many cells the map of one window comes after that of the one before; 0: one map for all.
    """

    shift: int
    halvings: int
    size: tuple[int, int]
    map_size: tuple[int, int]
    base: int = 0
    map_stride: int = 0
    parity: bool = False


class _Positions:
    """From where windows are to numbers of cells and masks, on the device.

    Args:
        count: how many windows.
        groups: which cells; the last ``unmasked`` need no mask.

    Attributes:
        origins: first cell ``(y, x)`` of every window of the last layer, ``[count, 2]``; to be written.
        index: the number of each cell, group by group. A group's part is a view that stays valid.
        mask: 1 for cells on the map, 0 for others, of the groups that need it.
    """

    def __init__(
        self, count: int, groups: Sequence[_Cells], unmasked: int, dtype: torch.dtype, device: torch.device
    ) -> None:
        # The number of a cell is the sum of one for its row and one for its column: a table of those, and for each cell
        # which two.
        table: list[np.ndarray] = []
        rows: list[np.ndarray] = []
        columns: list[np.ndarray] = []
        known = 0
        for g in groups:
            for axis, (length, limit, stride) in enumerate(
                [(g.size[0], g.map_size[0], g.map_size[1]), (g.size[1], g.map_size[1], 1)]
            ):
                i, k = (a.ravel() for a in np.indices((count, length)))
                base = g.base + g.map_stride * i if axis == 0 else 0 * i
                same = [np.full_like(i, v) for v in (g.shift, g.halvings, 1 if g.parity else -1)]
                table.append(np.stack([2 * i + axis, *same, k + g.parity, 0 * i + limit - 1, 0 * i + stride, base]))
            i, y, x = (a.ravel() for a in np.indices((count, *g.size)))
            rows.append(known + i * g.size[0] + y)
            columns.append(known + count * g.size[0] + i * g.size[1] + x)
            known += count * sum(g.size)

        def on_device(parts: list[np.ndarray]) -> Tensor:
            return to_device(torch.from_numpy(np.concatenate(parts, -1).astype(np.int64)), device)

        self.origins = torch.zeros(count, 2, dtype=torch.int64, device=device)
        self._table, self._rows, self._columns = on_device(table).unbind(), on_device(rows), on_device(columns)
        ends = np.cumsum([len(r) for r in rows])
        self._masked = int(ends[len(groups) - unmasked - 1])
        self.index = torch.zeros_like(self._rows)
        self.mask = torch.zeros(self._masked, dtype=dtype, device=device)
        self._ends = [int(end) for end in ends]

    def part(self, k: int) -> slice:
        """Where in the buffers the cells of that group are."""
        return slice(self._ends[k - 1] if k else 0, self._ends[k])

    def locate(self) -> None:
        """Compute index and mask for what `origins` holds now."""
        source, shift, halvings, bits, offset, limit, stride, base = self._table
        at = self.origins.flatten().index_select(0, source).sub_(shift)
        at = at.bitwise_right_shift_(halvings).bitwise_and_(bits).add_(offset)
        nearest = torch.minimum(at.clamp(min=0), limit)
        on_map, number = (at == nearest).to(self.mask.dtype), nearest.mul_(stride).add_(base)
        torch.add(number.index_select(0, self._rows), number.index_select(0, self._columns), out=self.index)
        rows, columns = self._rows[: self._masked], self._columns[: self._masked]
        torch.mul(on_map.index_select(0, rows), on_map.index_select(0, columns), out=self.mask)


class MovableLayout(Layout):
    """A `Layout` whose windows can be moved.

    Args:
        constant, plans, windows, dtype: as for `Layout`, planned for windows anywhere; where these are does not matter.
        batch: of the latents, 1 or one per window.
    """

    def __init__(
        self, constant: Tensor, plans: Sequence[LayerPlan], windows: Windows | None, dtype: torch.dtype, batch: int
    ) -> None:
        self._batch = batch
        self._now: Windows | None = None
        # All None where there are only whole maps and none is cut.
        self._positions: _Positions | None = None
        # The noise of all layers that have windows, one map after the other, and that of their windows.
        self._maps: Tensor | None = None
        self._noise: Tensor | None = None
        super().__init__(constant, plans, windows, dtype)

    def place(self, plans: Sequence[LayerPlan], windows: Windows | None) -> tuple[tuple[Layer, ...], WindowCrop | None]:
        """See `Layout.place`."""
        whole = [Layer(p, Placement(noise=weights_of(p.layer).noise)) for p in plans if p.whole]
        local = [p for p in plans if not p.whole]
        last = local[-1].windows if local else windows
        if last is None:
            return tuple(whole), None
        # How much is subtracted, and how often halved, for the windows that are cut and those of each layer.
        steps = [(0, 0)]
        for plan in reversed(local):
            shift, halvings = steps[0]
            steps.insert(0, (shift + (plan.layer.up << halvings), halvings + plan.layer.up - 1))
        cut_at = steps.pop(0)
        size, cut_map = (local[0].inputs.size, local[0].input_map) if local else (last.size, plans[-1].layer.size)
        # The cells of every layer's windows, counted through the maps of all layers; those that are cut; those of the
        # filtered maps.
        first = np.cumsum([0, *[math.prod(p.layer.size) for p in local]]).tolist()
        groups = [
            _Cells(*step, p.windows.size, p.layer.size, base=k)
            for p, step, k in zip(local, steps, first[:-1], strict=True)
        ]
        groups.append(_Cells(*cut_at, size, cut_map, map_stride=math.prod(cut_map) if self._batch > 1 else 0))
        doubling = [k for k, p in enumerate(local) if p.layer.up == 2]
        for k in doubling:
            filtered = filtered_size(local[k])
            groups.append(
                _Cells(*steps[k], local[k].windows.size, filtered, map_stride=math.prod(filtered), parity=True)
            )
        positions = _Positions(len(last), groups, len(doubling), self.dtype, self.constant.device)
        self._positions = positions
        part = positions.part(len(local))
        cut = IndexedCrop(positions.index[part], positions.mask[part][:, None], size, cut_map)
        if not local:
            return tuple(whole), cut
        noise = [weights_of(p.layer).noise for p in local]
        if any(n is not None for n in noise):
            zeros = [torch.zeros(p.layer.size, device=self.constant.device) for p in local]
            self._maps = torch.cat([(z if n is None else n).flatten() for n, z in zip(noise, zeros, strict=True)])
            self._noise = self._maps.new_zeros(part.start)
        layers = []
        for k, plan in enumerate(local):
            part, shape = positions.part(k), (len(last), 1, *plan.windows.size)
            filtered_crop = None
            if k in doubling:
                index = positions.index[positions.part(len(local) + 1 + doubling.index(k))]
                filtered_crop = IndexedCrop(index, None, plan.windows.size, filtered_size(plan))
            placement = Placement(
                input_crop=cut if plan.crops else None,
                noise=None if noise[k] is None or self._noise is None else self._noise[part].view(shape),
                inside=positions.mask[part].view(shape),
                filtered_crop=filtered_crop,
            )
            layers.append(Layer(plan, placement))
        return (*whole, *layers), None

    def move(self, windows: Windows | None) -> None:
        """Say where the windows are, without waiting for the device; None where there are none."""
        if self._positions is not None and windows is not None and windows != self._now:
            copy_to(self._positions.origins, torch.tensor(windows.origins))
            self._now = windows

    def locate(self) -> None:
        """Compute what follows from where the windows are, before anything is computed in them."""
        if self._positions is None:
            return
        self._positions.locate()
        if self._maps is not None and self._noise is not None:
            index = self._positions.index[: len(self._noise)]
            torch.index_select(self._maps, 0, index, out=self._noise)

    def gradient_support(self, gradient: Tensor) -> Rectangle:
        """All of it: no value is looked at."""
        return Rectangle.all_of((gradient.shape[2], gradient.shape[3]))


def movable_layout_for(
    synthesis: SynthesisNetwork, resolution: int, windows: Windows | None, batch: int
) -> MovableLayout | None:
    """A new layout for windows of this size and number; None for a network without frozen weights.

    Args:
        windows: where they are does not matter; None for the whole map.
        batch: of the latents, 1 or one per window.
    """
    plans = plan_layers(synthesis, resolution, windows, anywhere=True)
    if not is_supported([plan.layer for plan in plans]):
        return None
    final = windows if plans[-1].whole else None
    return MovableLayout(synthesis.get_parameter("b4.const"), plans, final, feature_type(synthesis), batch)
