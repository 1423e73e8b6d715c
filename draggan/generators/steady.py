"""A layout for windows wherever they are: one pass for all positions, which are data on the device.

A recorded pass (`draggan.generators.captured`) fixes every shape, address and number. So here

* windows are planned with the sizes that suffice wherever they are (`local.plan` with ``steady``);
* everything about them is an index, a mask or noise in a fixed buffer, and computed on the device from the first cells
  of the wanted windows alone. Those of the layers below follow by subtracting and halving, so for some a and j they are
  ``(o - a) >> j``; where the wanted windows begin in the filtered maps of a layer that doubles the size is
  ``1 + ((o - a) >> j) % 2``;
* no value is looked at: gradients are taken from whole windows, and what is outside a map is multiplied by zero.

The arithmetic is that of `draggan.generators.frozen`; for one window there is some 10 % more of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from draggan.generators.frozen import Cut, Layer, Layout, Place, Rectangle, Span, cells_as_rows, made_ready
from draggan.geometry import Windows, brought, write
from torch_utils.ops.upfirdn2d import upfirdn2d

__all__ = ["SteadyLayout"]


@dataclass(frozen=True)
class _Cells:
    """Cells of one window per wanted window o, row by row, on a map.

    The first is ``(o - shift) >> halvings``, or with ``parity`` 1 plus the last bit of that.

    Attributes:
        size: height and width of the windows.
        of: height and width of the map; cells outside take the place of the nearest on it.
        base: the number of the first map's first cell.
        apart: how many cells the map of one window comes after that of the one before; 0: one map for all.
    """

    shift: int
    halvings: int
    size: tuple[int, int]
    of: tuple[int, int]
    base: int = 0
    apart: int = 0
    parity: bool = False


class _Positions:
    """From where windows are to numbers of cells and masks, on the device.

    Args:
        count: how many windows.
        groups: which cells; the last ``unmasked`` need no mask.

    Attributes:
        origins: first cell ``(y, x)`` of every wanted window, ``[count, 2]``; to be written.
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
            for axis, (length, limit, stride) in enumerate([(g.size[0], g.of[0], g.of[1]), (g.size[1], g.of[1], 1)]):
                i, k = (a.ravel() for a in np.indices((count, length)))
                base = g.base + g.apart * i if axis == 0 else 0 * i
                same = [np.full_like(i, v) for v in (g.shift, g.halvings, 1 if g.parity else -1)]
                table.append(np.stack([2 * i + axis, *same, k + g.parity, 0 * i + limit - 1, 0 * i + stride, base]))
            i, y, x = (a.ravel() for a in np.indices((count, *g.size)))
            rows.append(known + i * g.size[0] + y)
            columns.append(known + count * g.size[0] + i * g.size[1] + x)
            known += count * sum(g.size)

        def there(parts: list[np.ndarray]) -> Tensor:
            return brought(torch.from_numpy(np.concatenate(parts, -1).astype(np.int64)), device)

        self.origins = torch.zeros(count, 2, dtype=torch.int64, device=device)
        self._table, self._rows, self._columns = there(table).unbind(), there(rows), there(columns)
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


class SteadyLayout(Layout):
    """A `Layout` whose windows can be moved.

    Args:
        constant, spans, wanted, dtype: as for `Layout`, planned to be steady; where the windows are does not matter.
        batch: of the latents, 1 or one per window.
    """

    def __init__(
        self, constant: Tensor, spans: Sequence[Span], wanted: Windows | None, dtype: torch.dtype, batch: int
    ) -> None:
        self._batch = batch
        self._now: Windows | None = None
        # All None where there are only whole maps and none is cut.
        self._positions: _Positions | None = None
        # The noise of all layers that have windows, one map after the other, and that of their windows.
        self._maps: Tensor | None = None
        self._noise: Tensor | None = None
        super().__init__(constant, spans, wanted, dtype)

    def placed(self, spans: Sequence[Span], wanted: Windows | None) -> tuple[tuple[Layer, ...], Cut | None]:
        """See `Layout.placed`."""
        whole = [Layer(s, Place(noise=made_ready(s.layer).noise)) for s in spans if s.whole]
        local = [s for s in spans if not s.whole]
        windows = local[-1].wanted if local else wanted
        if windows is None:
            return tuple(whole), None
        # How much is subtracted, and how often halved, for the windows that are cut and those of each layer.
        steps = [(0, 0)]
        for span in reversed(local):
            shift, halvings = steps[0]
            steps.insert(0, (shift + (span.layer.up << halvings), halvings + span.layer.up - 1))
        cut_at = steps.pop(0)
        size = local[0].given.size if local else windows.size
        of = local[0].input_size if local else spans[-1].layer.size
        # The cells of every layer's windows, counted through the maps of all layers; those that are cut; those that are
        # picked.
        first = np.cumsum([0, *[math.prod(s.layer.size) for s in local]]).tolist()
        groups = [
            _Cells(*step, s.wanted.size, s.layer.size, base=k)
            for s, step, k in zip(local, steps, first[:-1], strict=True)
        ]
        groups.append(_Cells(*cut_at, size, of, apart=math.prod(of) if self._batch > 1 else 0))
        doubling = [k for k, s in enumerate(local) if s.layer.up == 2]
        for k in doubling:
            filtered = 2 * local[k].given.size[0] - 2, 2 * local[k].given.size[1] - 2
            groups.append(_Cells(*steps[k], local[k].wanted.size, filtered, apart=math.prod(filtered), parity=True))
        positions = _Positions(len(windows), groups, len(doubling), self.dtype, self.constant.device)
        self._positions = positions
        part = positions.part(len(local))
        cut = _SteadyCut(positions.index[part], positions.mask[part][:, None], size, of)
        if not local:
            return tuple(whole), cut
        noise = [made_ready(s.layer).noise for s in local]
        if any(n is not None for n in noise):
            zeros = [torch.zeros(s.layer.size, device=self.constant.device) for s in local]
            self._maps = torch.cat([(z if n is None else n).flatten() for n, z in zip(noise, zeros, strict=True)])
            self._noise = self._maps.new_zeros(part.start)
        layers = []
        for k, span in enumerate(local):
            part, shape = positions.part(k), (len(windows), 1, *span.wanted.size)
            place = Place(
                cut=cut if span.cut else None,
                noise=None if noise[k] is None or self._noise is None else self._noise[part].view(shape),
                inside=positions.mask[part].view(shape),
                picked=positions.index[positions.part(len(local) + 1 + doubling.index(k))] if k in doubling else None,
            )
            layers.append(_SteadyLayer(span, place))
        return (*whole, *layers), None

    def move(self, windows: Windows | None) -> None:
        """Say where the windows are, without waiting for the device; None where there are none."""
        if self._positions is not None and windows is not None and windows != self._now:
            write(self._positions.origins, torch.tensor(windows.origins))
            self._now = windows

    def locate(self) -> None:
        """Compute what follows from where the windows are, before anything is computed in them."""
        if self._positions is None:
            return
        self._positions.locate()
        if self._maps is not None and self._noise is not None:
            index = self._positions.index[: len(self._noise)]
            torch.index_select(self._maps, 0, index, out=self._noise)

    def support(self, gradient: Tensor) -> Rectangle:
        """All of it: nobody looks."""
        return Rectangle(0, gradient.shape[2], 0, gradient.shape[3])


class _SteadyLayer(Layer):
    """Windows of a layer; its gradients come from whole windows and go to whole windows."""

    def unfiltered(self, g: Tensor, r: Rectangle) -> tuple[Tensor, Rectangle]:
        assert self.picked is not None
        height, width = self.given_size
        n, channels = g.shape[:2]
        tall, wide = 2 * height - 2, 2 * width - 2
        spread = g.new_zeros(n * tall * wide, channels)
        spread.index_copy_(0, self.picked, cells_as_rows(g))
        g = spread.view(n, tall, wide, channels).permute(0, 3, 1, 2)
        # Cell j of these goes to the cells j .. j + 3 of the 2 h + 1 that the convolution gave.
        g = upfirdn2d(g, self.ready.flipped, padding=(3, 3, 3, 3), gain=4)
        return self.ready.convolution.run(g, self.ready.weight, 0, False), Rectangle(0, height, 0, width)


class _SteadyCut(Cut):
    """Windows gathered cell by cell.

    Args:
        each: numbers of the maps' cells.
        mask: ``[cells, 1]``, 0 for cells outside the map.
        size: of the windows.
        of: size of the map.
    """

    view = False

    def __init__(self, each: Tensor, mask: Tensor, size: tuple[int, int], of: tuple[int, int]) -> None:
        self._each, self._mask, self._size, self._of = each, mask, size, of

    def of(self, x: Tensor) -> Tensor:
        out = cells_as_rows(x).index_select(0, self._each).mul_(self._mask)
        return out.view(-1, *self._size, x.shape[1]).permute(0, 3, 1, 2)

    def back(self, g: Tensor, part: Rectangle, batch: int) -> tuple[Tensor, Rectangle]:
        height, width = self._of
        whole = g.new_zeros(batch * height * width, g.shape[1])
        whole.index_add_(0, self._each, cells_as_rows(g) * self._mask)
        return whole.view(batch, height, width, -1).permute(0, 3, 1, 2), Rectangle(0, height, 0, width)
