"""Two pictures of one network in one: inside a mask what a latent draws, outside it another picture, with no seam.

At every layer from a small map on, features ``F = m F(w) + (1 - m) F(first)``, and likewise the picture that some
networks draw on the way; m is the mask, its border softened, averaged to the cells of the layer. The layers that follow
mix both sides, so that what crosses the border fits. At the last one, m is zero outside the mask: there the picture is
the first one to the last bit.

What is outside at a layer is known, so only the part of a map is computed where m is not zero, from the part of the map
below that this depends on: a picture with a small mask costs less than a whole one. Pictures may be blended with
blended ones (`Picture.base`); the cost grows by one picture for each.

Families say how their layers are computed, whole and in part (`Stage`); nothing here knows a family.
"""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.geometry import Grid, Windows, crop

__all__ = ["FEATHER", "Blend", "Drawing", "Maps", "Picture", "Stage", "mask_weights", "picture_features"]

# How far the mask's border is softened to either side, pixels at 512 px. (benchmarks/mask.md)
FEATHER = 12.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """What a picture is made of.

    Attributes:
        ws: the latent that draws it.
        mask: True = drawn by that latent; None: all of it is.
        base: the picture outside the mask; None without a mask.
    """

    ws: Float[Tensor, "1 num_ws w_dim"]
    mask: Bool[np.ndarray, "height width"] | None = None
    base: Picture | None = None

    @property
    def layers(self) -> list[Picture]:
        """The pictures it is blended of, the first of which is of one latent alone; itself last."""
        found = [self]
        while found[-1].mask is not None and found[-1].base is not None:
            found.append(found[-1].base)
        return found[::-1]


@dataclass(frozen=True, eq=False)
class Maps:
    """What there is after a stage, of the whole map or of windows of it.

    Attributes:
        features: its output.
        image: the picture drawn so far; None: none yet.
    """

    features: Float[Tensor, "n channel height width"]
    image: Float[Tensor, "n colour image_height image_width"] | None


class Stage(abc.ABC):
    """Layers of a network between two places where features may be blended.

    Attributes:
        name: of the feature level that it ends with, or of the picture.
        grid: how its map lies over the picture.
        blends: pictures are blended from here on.
    """

    name: str
    grid: Grid
    blends: bool

    @abc.abstractmethod
    def whole(self, below: Maps | None, rows: Sequence[Tensor]) -> Maps:
        """The whole maps, from those of the stage below (None for the first) and the latent's rows."""

    @abc.abstractmethod
    def inputs(self, windows: Windows, samples: int) -> Windows:
        """The windows of the map below that windows of this one depend on.

        Args:
            samples: latent codes: 1 for all windows, or one per window.
        """

    @abc.abstractmethod
    def part(self, below: Maps, rows: Sequence[Tensor], windows: Windows, *, draw: bool) -> Maps:
        """Windows of the maps, on the map, from the windows of the maps below that `inputs` names; with gradients.

        Args:
            below: cells outside the map are zero.
            draw: the picture too, if this stage draws.
        """


@runtime_checkable
class Drawing(Protocol):
    """What is asked of a generator here (`draggan.generators.base.Generator`)."""

    image_size: tuple[int, int]

    @property
    def stages(self) -> Sequence[Stage]:
        """All its layers in order."""

    def grid(self, level: str) -> Grid:
        """How the map of a level lies over the picture."""

    def features(self, ws: Tensor | Sequence[Tensor], level: str) -> Tensor:
        """The feature map of a level."""

    def local_features(self, ws: Tensor | Sequence[Tensor], level: str, windows: Windows) -> Tensor:
        """Windows of it."""

    def draw(self, ws: Tensor | Sequence[Tensor], height: int | None = None) -> Tensor:
        """The picture, or the smaller one of that height."""


def mask_weights(
    mask: Bool[np.ndarray, "height width"], grid: Grid, device: torch.device | str = "cpu"
) -> Float[Tensor, "1 1 cells_y cells_x"]:
    """m: how much of every cell is drawn anew, in [0, 1].

    The border of the mask, softened by a box of `FEATHER` to either side, averaged to the cells. Cells of a margin
    around the picture take the value of the picture's border.
    """
    feather = round(FEATHER * max(mask.shape) / 512)
    m = torch.from_numpy(mask.astype(np.float32)).to(device)[None, None]
    if feather:
        m = F.avg_pool2d(F.pad(m, [feather] * 4, mode="replicate"), 2 * feather + 1, 1)
        # The sum of many numbers rounds; what is inside is to be exactly inside.
        m = torch.where(m > 1 - 1e-6, 1.0, m)
    margin = round(grid.margin)
    size = (grid.size[0] - 2 * margin, grid.size[1] - 2 * margin)
    m = F.adaptive_avg_pool2d(m, size) if size[0] <= mask.shape[0] else F.interpolate(m, size)
    return F.pad(m, [margin] * 4, mode="replicate").clamp(0, 1) if margin else m.clamp(0, 1)


def _mixed(outside: Tensor, inside: Tensor, m: Tensor) -> Tensor:
    """Exactly one of the two where m is 0 or 1."""
    return torch.lerp(outside.to(inside.dtype), inside, m.to(inside.dtype))


def _support(m: Float[Tensor, "1 1 height width"]) -> Windows:
    """The smallest window that holds everything above zero."""
    there = (m[0, 0] > 0).cpu().numpy()
    rows, columns = np.flatnonzero(there.any(1)), np.flatnonzero(there.any(0))
    if not len(rows):
        return Windows(((0, 0),), (1, 1))
    size = (int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1)
    return Windows(((int(rows[0]), int(columns[0])),), size)


def _hull(a: Windows, b: Windows) -> Windows:
    """The smallest window around two."""
    ((ay, ax),), ((by, bx),) = a.origins, b.origins
    y, x = min(ay, by), min(ax, bx)
    bottom, right = max(ay + a.size[0], by + b.size[0]), max(ax + a.size[1], bx + b.size[1])
    return Windows(((y, x),), (bottom - y, right - x))


def _within(windows: Windows, frame: Windows) -> Windows:
    """The same windows as seen from the first cell of a frame."""
    ((y, x),) = frame.origins
    return Windows(tuple((oy - y, ox - x) for oy, ox in windows.origins), windows.size)


@dataclass(frozen=True, eq=False)
class _Region:
    """Where one stage is blended.

    Attributes:
        stage: it.
        m: `mask_weights` of its cells; of the last stage zero outside the mask.
        anew: where m is 1, known to the host: asking a device for it would wait for what it is doing.
        window: holds every cell with a weight.
        inputs: what that depends on below.
    """

    stage: Stage
    m: Float[Tensor, "1 1 height width"]
    anew: Bool[np.ndarray, "height width"]
    window: Windows
    inputs: Windows

    def blended(self, rows: Sequence[Tensor], below: Maps, below_frame: Windows, first: Maps, frame: Windows) -> Maps:
        """The maps of this stage within a frame.

        Args:
            rows: of the latent inside the mask.
            below: the blended maps of the stage below, within ``below_frame``.
            first: the maps of the picture outside, within ``frame``; pictures always whole.
        """
        needed = _within(self.inputs, below_frame)
        image = below.image
        taken = Maps(crop(below.features, needed), None if image is None else crop(image, self.inputs))
        part = self.stage.part(taken, rows, self.window, draw=True)
        m = crop(self.m, self.window)
        features = _pasted(first.features, part.features, m, _within(self.window, frame))
        if part.image is None or first.image is None:
            return Maps(features, first.image)
        return Maps(features, _pasted(first.image, part.image, m, self.window))

    def blended_whole(self, maps: Maps, first: Maps) -> Maps:
        """Of whole maps."""
        if maps.image is None or first.image is None:
            return Maps(_mixed(first.features, maps.features, self.m), maps.image)
        return Maps(_mixed(first.features, maps.features, self.m), _mixed(first.image, maps.image, self.m))


def _pasted(outside: Tensor, inside: Tensor, m: Tensor, window: Windows) -> Tensor:
    """A copy, with a mixture in that window of it."""
    ((y, x),), (height, width) = window.origins, window.size
    out = outside.to(inside.dtype, copy=True)
    out[:, :, y : y + height, x : x + width] = _mixed(outside[:, :, y : y + height, x : x + width], inside, m)
    return out


def _regions(stages: Sequence[Stage], mask: Bool[np.ndarray, "height width"], device: torch.device) -> list[_Region]:
    """Of every stage that is blended."""
    found = []
    for stage in stages:
        if stage.blends:
            m = mask_weights(mask, stage.grid, device)
            if stage is stages[-1]:
                m = m * torch.tensor(mask, dtype=m.dtype, device=m.device)
            window = _support(m)
            anew = (m[0, 0] == 1).cpu().numpy()
            found.append(_Region(stage, m, anew, window, stage.inputs(window, 1)))
    return found


def _whole(stage: Stage) -> Windows:
    return Windows(((0, 0),), stage.grid.size)


def _walk(stages: Sequence[Stage], picture: Picture) -> Iterator[tuple[Stage, Maps]]:
    """The whole maps of a picture, stage by stage; only those of two stages exist at a time."""
    layers = picture.layers
    rows = [layer.ws.unbind(1) for layer in layers]
    regions = [[] if layer.mask is None else _regions(stages, layer.mask, picture.ws.device) for layer in layers]
    start = next(i for i, stage in enumerate(stages) if stage.blends)
    maps: list[Maps] = []
    for i, stage in enumerate(stages):
        below, maps = maps, []
        for k, taken in enumerate(rows):
            if k == 0 or i <= start:
                made = stage.whole(below[k] if below else None, taken)
                maps.append(regions[k][0].blended_whole(made, maps[-1]) if k and i == start else made)
            else:
                frame = _whole(stage)
                maps.append(regions[k][i - start].blended(taken, below[k], _whole(stages[i - 1]), maps[-1], frame))
        yield stage, maps[-1]


@torch.no_grad()
def picture_features(network: Drawing, picture: Picture, level: str) -> Float[Tensor, "1 channel height width"]:
    """The feature map of a picture, which may be a blended one."""
    if picture.mask is None or not network.stages:
        return network.features(picture.ws, level)
    for stage, maps in _walk(network.stages, picture):
        if stage.name == level:
            return maps.features
    raise KeyError(level)


class Blend:
    """A mask and the picture outside it, ready to be blended with what latents draw inside.

    Holds of the first picture what the parts inside depend on, and the picture; whole maps up to ``level`` if features
    are asked for. Changes nothing once made, so that threads may share it.

    Args:
        network: with frozen weights.
        mask: True = drawn anew; at least one pixel is, and at least one is not.
        base: the first picture.
        level: the finest level that `features` will be asked for; None: none.
    """

    @torch.no_grad()
    def __init__(
        self, network: Drawing, mask: Bool[np.ndarray, "height width"], base: Picture, level: str | None = None
    ) -> None:
        self.mask, self.base = mask, base
        self._network = network
        self._stages = network.stages
        device = base.ws.device
        height, width = network.image_size
        if not self._stages:
            self._m = mask_weights(mask, Grid(size=(height, width), scale=(1.0, 1.0)), device)
            self._m *= torch.tensor(mask, dtype=self._m.dtype, device=device)
            self._first_picture = _picture_of(network, base)
            self._first_features = None if level is None else network.features(base.ws, level)
            return
        self._start = next(i for i, stage in enumerate(self._stages) if stage.blends)
        self._regions = _regions(self._stages, mask, device)
        names = [stage.name for stage in self._stages]
        self._finest = -1 if level is None else names.index(level)
        # What is kept of every stage that is blended: first picture, frame.
        self._kept: list[tuple[Maps, Windows]] = []
        for i, (stage, maps) in enumerate(_walk(self._stages, base)):
            if i < self._start:
                continue
            frame = _whole(stage)
            if i > max(self._start, self._finest):
                window = self._regions[i - self._start].window
                last = i + 1 == len(self._stages)
                frame = window if last else _hull(window, self._regions[i + 1 - self._start].inputs)
                maps = Maps(crop(maps.features, frame), maps.image)
            self._kept.append((maps, frame))

    @property
    def memory(self) -> int:
        """Bytes that are kept of the first picture."""
        if not self._stages:
            return self._first_picture.nbytes
        tensors = [t for maps, _ in self._kept for t in (maps.features, maps.image) if t is not None]
        return sum(t.nbytes for t in tensors) + sum(region.m.nbytes for region in self._regions)

    @torch.no_grad()
    def synthesis(self, ws: Float[Tensor, "1 num_ws w_dim"]) -> Float[Tensor, "1 colour height width"]:
        """The blended picture. Outside the mask it is the first one to the last bit."""
        if not self._stages:
            return _mixed(self._first_picture, self._network.draw(ws), self._m)
        return self._drawn(ws, len(self._stages))

    @torch.no_grad()
    def preview(self, ws: Float[Tensor, "1 num_ws w_dim"], height: int) -> Float[Tensor, "1 colour _ _"]:
        """A smaller picture on the way, as `draggan.generators.base.Generator.preview`."""
        heights = [stage.grid.size[0] for stage in self._stages[:-1]]
        if height not in heights or height == self._network.image_size[0]:
            return self.synthesis(ws) if height == self._network.image_size[0] else self._network.draw(ws, height)
        count = heights.index(height) + 1
        if count <= self._start:
            return self._network.draw(ws, height)
        return self._drawn(ws, count)

    def _drawn(self, ws: Float[Tensor, "1 num_ws w_dim"], count: int) -> Float[Tensor, "1 colour _ _"]:
        """The picture after so many stages."""
        rows = ws.unbind(1)
        maps: Maps | None = None
        for stage in self._stages[: self._start + 1]:
            maps = stage.whole(maps, rows)
        assert maps is not None
        first, frame = self._kept[0]
        maps = self._regions[0].blended_whole(maps, first)
        for region, (first, next_frame) in zip(
            self._regions[1 : count - self._start], self._kept[1 : count - self._start], strict=True
        ):
            maps = region.blended(rows, maps, frame, first, next_frame)
            frame = next_frame
        assert maps.image is not None
        return maps.image

    def features(
        self, ws: Tensor | Sequence[Tensor], level: str, windows: Windows | None = None
    ) -> Float[Tensor, "n channel _ _"]:
        """The feature map of the blended picture, or windows of it that lie on the map; with gradients.

        Args:
            ws: a latent or its rows; with windows one for all of them, or one per window.
            level: no finer than the one given when this was made.
        """
        network = self._network
        rows = ws.unbind(1) if isinstance(ws, Tensor) else ws
        whole = Windows(((0, 0),), network.grid(level).size)
        if not self._stages:
            assert self._first_features is not None
            m = mask_weights(self.mask, network.grid(level), self._m.device)
            wanted = whole if windows is None else windows
            return _mixed(crop(self._first_features, wanted), _plain(network, rows, level, windows), crop(m, wanted))
        names = [stage.name for stage in self._stages]
        last = names.index(level)
        if last < self._start:
            return _plain(network, rows, level, windows)
        samples = max(len(row) for row in rows)
        needed = [whole if windows is None else windows]
        if windows is None and samples > 1:
            needed = [Windows(((0, 0),) * samples, whole.size)]
        for stage in reversed(self._stages[self._start + 1 : last + 1]):
            below = stage.inputs(needed[0], samples)
            needed.insert(0, below)
        regions = self._regions[: last - self._start + 1]
        weights = [crop(region.m, part) for region, part in zip(regions, needed, strict=True)]
        if all(_all_anew(region, part) for region, part in zip(regions, needed, strict=True)):
            return _plain(network, rows, level, windows)
        x = _plain(network, rows, names[self._start], needed[0])
        x = _mixed(crop(self._kept[0][0].features, needed[0]), x, weights[0])
        for region, (first, _), part, m in zip(regions[1:], self._kept[1:], needed[1:], weights[1:], strict=False):
            x = region.stage.part(Maps(x, None), rows, part, draw=False).features
            x = _mixed(crop(first.features, part), x, m)
        return x


def _all_anew(region: _Region, windows: Windows) -> bool:
    """Whether nothing of the first picture is in these windows."""
    (height, width), (tall, wide) = region.anew.shape, windows.size
    return all(
        bool(region.anew[max(y, 0) : min(y + tall, height), max(x, 0) : min(x + wide, width)].all())
        for y, x in windows.origins
    )


def _plain(network: Drawing, rows: Sequence[Tensor], level: str, windows: Windows | None) -> Tensor:
    return network.features(rows, level) if windows is None else network.local_features(rows, level, windows)


def _picture_of(network: Drawing, picture: Picture) -> Tensor:
    """The picture of a network of which no layers are known: blended pixel by pixel."""
    if picture.mask is None or picture.base is None:
        return network.draw(picture.ws)
    return Blend(network, picture.mask, picture.base).synthesis(picture.ws)
