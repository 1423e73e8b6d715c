"""Where on a photo is what a model draws: a crop is proposed where a built-in model's own networks agree.

1. Windows of many sizes are laid over the photo, and the landmark network is asked of each where the landmarks are. In
   a window that shows none of them it answers with about the middle of its training, which moves with the window;
   windows near the subject answer with the same places on the photo, wherever they lie themselves. So each answer says
   where the window should be (the model's mean landmarks laid over those that were found), and places that many windows
   point to are candidates.
2. Candidates are moved to where they point, a few times.
3. The encoder and the model draw what they take each for, small; what is drawn most alike is the proposal, once it has
   been moved and scaled a little to where it is drawn best. A subject that is not there is not drawn.

Whether to believe it is decided by both: how far the landmarks of windows a little beside it lie apart, and how well it
is drawn (`SURE_SPREAD`, `SURE_PSNR`; benchmarks/crops.md). Nothing is found that is smaller than a fifth of the photo's
shorter side, or turned, or on a photo more than six times as long as that.
"""

from __future__ import annotations

import math
from collections.abc import Generator as Turns
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from draggan.errors import ModelNotFound
from draggan.generators.base import Generator
from draggan.inversion.crop import Crop, centred
from draggan.inversion.distance import psnr
from draggan.inversion.encoder import Encoder, find_encoder
from draggan.inversion.stepwise import finished
from draggan.landmarks import INPUT, LandmarkNetwork, find_landmarks
from draggan.photo import Photo
from draggan.pixels import from_uint8

__all__ = ["SURE_PSNR", "SURE_SPREAD", "CropFinder", "FoundCrop", "crop_finder"]

SURE_SPREAD = 0.08
"""Of the window's side: farther apart, nothing is proposed."""
SURE_PSNR = 19.0
"""dB, of 64 px: drawn worse than that, neither."""

_ENOUGH = 640  # pixels of a photo's shorter side: the smallest windows are still twice what networks are shown
_LONGEST = 6  # times its shorter side: a longer photo would have windows without end
_LARGEST, _SMALLEST = 1.1, 0.2  # sides of windows, of the photo's shorter one
_SHRINK = 1.3  # from one size of windows to the next
_STRIDE = 4  # of windows side by side: so many to their width
_SAMPLES, _TRUNCATION = 32, 0.7  # pictures of which the mean landmarks are taken
_CANDIDATES, _MOVES = 6, 3
_NEAR, _ALIKE = 0.08, 0.15  # what counts as the same place (of the side) and size (logarithm)
_BESIDE = ((0.12, 0, 1), (-0.12, 0, 1), (0, 0.12, 1), (0, -0.12, 1), (0, 0, 0.88), (0, 0, 1.12), (0, 0, 1))
_STEPS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
_FINER = (0.08, 0.04, 0.02)  # steps in which the best candidate is moved and scaled, of its side
_BATCH, _DRAWN = 64, 4  # windows and pictures that are looked at and drawn together, in one step
_VOTERS = 256  # windows whose votes are counted at a time
_CALM = 3.0  # frames
_FOLLOWED = 2  # times that a crop is moved to where its landmarks point, in each frame

# Windows: x and y of the middle and the side, in pixels of the photo measured from its upper left corner.
Windows = Float[np.ndarray, "window 3"]


@dataclass(frozen=True, kw_only=True)
class FoundCrop:
    """What was found on a photo.

    Attributes:
        crop: of the model's shape, upright.
        spread: how far apart the landmarks lie that windows a little beside it find, of its side.
        psnr: of what encoder and model make of it, dB at 64 px.
    """

    crop: Crop
    spread: float
    psnr: float

    @property
    def is_sure(self) -> bool:
        """Whether it is worth proposing."""
        return self.spread <= SURE_SPREAD and self.psnr >= SURE_PSNR


class CropFinder:
    """Finds crops for one model, whose pictures are square.

    Args:
        generator: the model.
        landmarks: its landmark network; also an attribute.
        encoder: its encoder.
    """

    def __init__(self, generator: Generator, landmarks: LandmarkNetwork, encoder: Encoder) -> None:
        self._generator, self._encoder = generator, encoder
        self.landmarks = landmarks
        self._mean = self._mean_landmarks()

    def find(self, photo: Photo) -> FoundCrop:
        """`search`, all at once."""
        return finished(self.search(photo))

    @torch.no_grad()
    def search(self, photo: Photo) -> Turns[None, None, FoundCrop]:
        """The best crop there is, sure or not; of a photo that is too elongated to be searched, its middle. Yields some
        times a second."""
        if max(photo.size) > _LONGEST * min(photo.size):
            middle = centred(photo, self._generator.image_size)
            return FoundCrop(crop=middle, spread=math.inf, psnr=0.0)
        photo, scale = _reduced(photo)
        pyramid = _Pyramid(from_uint8(photo.pixels))
        windows, places = yield from self._look(photo)
        yield
        pointed = self._pointed(places)
        best = np.argsort(-_votes(windows, pointed))[:_CANDIDATES]
        candidates = self._kept(pointed[best], photo)
        for _ in range(_MOVES):
            candidates = self._kept(self._pointed(self._places(pyramid, candidates)), photo)
            yield
        drawn = yield from self._drawn(pyramid, candidates)
        at, reached = candidates[int(drawn.argmax())], float(drawn.max())
        for step in _FINER:
            moves = [(dx, dy, z) for dx, dy in _STEPS for z in (1 - step, 1, 1 + step)]
            tried = self._kept(_beside(at, [(step * dx, step * dy, z) for dx, dy, z in moves]), photo)
            drawn = yield from self._drawn(pyramid, tried)
            if float(drawn.max()) > reached:
                at, reached = tried[int(drawn.argmax())], float(drawn.max())
        found = self._places(pyramid, _beside(at, _BESIDE))
        spread = float(np.sqrt(np.square(found - found.mean(0)).sum(-1).mean()) / at[2])
        x, y, half = (float(value) * scale for value in (at[0], at[1], at[2] / 2))
        crop = Crop(centre=(x - 0.5, y - 0.5), right=(half, 0.0), down=(0.0, half))
        return FoundCrop(crop=crop, spread=spread, psnr=reached)

    @torch.no_grad()
    def follow(self, photos: Iterable[Photo], first: Crop, smoothing: float = _CALM) -> list[Crop]:
        """The crop of every frame of a film, in which the subject is where it is in the first one: it moves and grows
        with the landmarks, and smoothly.

        Args:
            photos: the frames.
            first: the first one's crop; how it is turned stays.
            smoothing: standard deviation over time, frames.
        """
        side = 2 * math.hypot(*first.right)
        at = begun = np.array([[first.centre[0] + 0.5, first.centre[1] + 0.5, side]])
        reference: Windows | None = None
        found = []
        for photo in photos:
            for _ in range(_FOLLOWED):
                pointed = self._kept(self._pointed(self._asked(_cut_out(photo, at[0]), at)), photo)
                if reference is None:
                    reference = pointed
                larger = pointed[0, 2] / reference[0, 2]
                middle = pointed[0, :2] + larger * (begun[0, :2] - reference[0, :2])
                at = self._kept(np.array([[*middle, side * larger]]), photo)
            found.append(at[0])
        calm = _over_time(np.array(found), smoothing)
        turned = [np.asarray(axis) / side for axis in (first.right, first.down)]
        return [
            Crop(centre=(x - 0.5, y - 0.5), right=_pair(s * turned[0]), down=_pair(s * turned[1]))
            for x, y, s in calm.tolist()
        ]

    def _mean_landmarks(self) -> Float[np.ndarray, "landmark 2"]:
        """Where landmarks are in the model's pictures, as parts of width and height."""
        with torch.no_grad():
            height = min(self._generator.preview_heights, key=lambda h: abs(h - INPUT))
            latents = torch.cat([self._generator.sample(seed, _TRUNCATION) for seed in range(_SAMPLES)])
            drawn = [self._generator.draw(ws, height).float().cpu() for ws in latents.split(8)]
            return self.landmarks.places(_small(torch.cat(drawn), INPUT)).mean(0).numpy()

    def _look(self, photo: Photo) -> Turns[None, None, tuple[Windows, Float[np.ndarray, "window landmark 2"]]]:
        """Windows all over the photo, and where on it each sees the landmarks."""
        image, (height, width) = Image.fromarray(photo.pixels), photo.size
        side, shorter = _LARGEST * min(photo.size), min(photo.size)
        windows, places = [], []
        while side >= _SMALLEST * shorter and side >= 16:
            scale, step = INPUT / side, INPUT // _STRIDE
            size = max(1, round(width * scale)), max(1, round(height * scale))
            small = image.resize(
                size, Image.Resampling.BOX if scale < 1 else Image.Resampling.BILINEAR, reducing_gap=2.0
            )
            pixels = np.asarray(small)
            # Some beyond the edges, where a subject may be cut off, and as much as makes whole steps.
            margin = INPUT // _STRIDE
            short = [max(0, INPUT - 2 * margin - length) for length in pixels.shape[:2]]
            beyond = [
                (margin, margin + less + (INPUT - length - 2 * margin - less) % step)
                for length, less in zip(pixels.shape[:2], short, strict=True)
            ]
            padded = np.pad(pixels, [*beyond, (0, 0)], mode="symmetric")
            picture = from_uint8(padded)
            cut = F.unfold(picture, INPUT, stride=step)[0].T.reshape(-1, 3, INPUT, INPUT)
            across = (padded.shape[1] - INPUT) // step + 1
            number = torch.arange(len(cut)).numpy()
            corner = np.stack([number % across, number // across], 1) * step - margin
            middle = (corner + INPUT / 2) / scale
            windows.append(np.concatenate([middle, np.full((len(cut), 1), side)], 1))
            for first in range(0, len(cut), _BATCH):
                some = slice(first, first + _BATCH)
                places.append(self._asked(cut[some], windows[-1][some]))
                yield
            side /= _SHRINK
        return np.concatenate(windows), np.concatenate(places)

    def _places(self, pyramid: _Pyramid, windows: Windows) -> Float[np.ndarray, "window landmark 2"]:
        return self._asked(pyramid.cut(windows, INPUT), windows)

    def _asked(self, cut: Float[Tensor, "window 3 64 64"], windows: Windows) -> Float[np.ndarray, "window landmark 2"]:
        """Where on the photo the landmarks are, as each window shows them."""
        found = self.landmarks.places(cut).numpy()
        return windows[:, None, :2] + (found - 0.5) * windows[:, None, 2:]

    def _pointed(self, places: Float[np.ndarray, "window landmark 2"]) -> Windows:
        """The window in which landmarks at these places would be where the model has them, by least squares."""
        mean = self._mean - 0.5
        spread = mean - mean.mean(0)
        middle = places.mean(1)
        side = ((places - middle[:, None]) * spread).sum((1, 2)) / np.square(spread).sum()
        return np.concatenate([middle - side[:, None] * mean.mean(0), side[:, None]], 1)

    def _kept(self, windows: Windows, photo: Photo) -> Windows:
        """The same, on the photo."""
        height, width = photo.size
        sides = windows[:, 2].clip(16, 2 * max(photo.size))
        return np.stack([windows[:, 0].clip(0, width), windows[:, 1].clip(0, height), sides], 1)

    def _drawn(self, pyramid: _Pyramid, windows: Windows) -> Turns[None, None, Float[np.ndarray, "window"]]:
        """How near encoder and model come to each, dB."""
        height = min(self._generator.preview_heights, key=lambda h: abs(h - INPUT))
        shown = pyramid.cut(windows, 2 * INPUT)
        latents = self._encoder(shown)[:, None].expand(-1, self._generator.num_ws, -1).to(self._generator.device)
        drawn = []
        for ws in latents.split(_DRAWN):
            drawn.append(self._generator.draw(ws.contiguous(), height).float().cpu())
            yield
        pairs = zip(_small(torch.cat(drawn), INPUT).split(1), _small(shown, INPUT).split(1), strict=True)
        return np.array([psnr(a, b) for a, b in pairs])


def _cut_out(photo: Photo, window: Float[np.ndarray, "3"]) -> Float[Tensor, "1 3 64 64"]:
    """A window of a photo, as `_Pyramid` cuts it, but for what is around it alone: a frame of a film may be large."""
    x, y, side = window.tolist()
    factor = 2 ** max(0, int(math.log2(max(side, 1) / (2 * INPUT))))
    # As far around it as it may have to be mirrored, in whole cells of what is averaged.
    low = [factor * max(0, math.floor((middle - side) / factor)) for middle in (x, y)]
    height, width = photo.size
    high = [min(length, math.ceil(middle + side)) for middle, length in ((x, width), (y, height))]
    around = Image.fromarray(photo.pixels[low[1] : high[1], low[0] : high[0]]).reduce(factor)
    moved = np.array([[(x - low[0]) / factor, (y - low[1]) / factor, side / factor]])
    return _Pyramid(from_uint8(np.asarray(around))).cut(moved, INPUT)


class _Pyramid:
    """A photo at sizes that are halves of each other, to cut windows out of without aliasing."""

    def __init__(self, whole: Float[Tensor, "1 3 height width"]) -> None:
        self._levels = [whole]
        while min(self._levels[-1].shape[-2:]) > INPUT:
            self._levels.append(F.avg_pool2d(self._levels[-1], 2))

    def cut(self, windows: Windows, size: int) -> Float[Tensor, "window 3 size size"]:
        """Windows scaled to ``size`` pixels; beyond the photo it is mirrored."""
        cut = []
        for x, y, side in windows.tolist():
            level = min(max(0, math.floor(math.log2(max(side / size, 1)))), len(self._levels) - 1)
            picture, factor = self._levels[level], 2**level
            height, width = (length * factor for length in picture.shape[-2:])
            matrix = torch.tensor([[[side / width, 0, 2 * x / width - 1], [0, side / height, 2 * y / height - 1]]])
            grid = F.affine_grid(matrix.float(), [1, 3, size, size], align_corners=False)
            cut.append(F.grid_sample(picture, grid, padding_mode="reflection", align_corners=False))
        return torch.cat(cut)


def _beside(window: Float[np.ndarray, "3"], moves: Sequence[tuple[float, float, float]]) -> Windows:
    """Windows beside one: by how much of its side, and how many times as large."""
    x, y, side = window.tolist()
    return np.array([(x + dx * side, y + dy * side, side * larger) for dx, dy, larger in moves])


def _votes(windows: Windows, pointed: Windows) -> Float[np.ndarray, "window"]:
    """How many windows point to where each points: those that lie at other places themselves."""
    sides, votes = np.maximum(pointed[:, 2], 1.0), []
    for first in range(0, len(windows), _VOTERS):
        some = slice(first, first + _VOTERS)
        away = np.linalg.norm(pointed[some, None, :2] - pointed[None, :, :2], axis=-1) / sides[some, None]
        larger = np.log(sides[some, None] / sides[None])
        same = np.exp(-np.square(away / _NEAR) - np.square(larger / _ALIKE))
        between = np.linalg.norm(windows[some, None, :2] - windows[None, :, :2], axis=-1)
        between = between / np.minimum(windows[some, None, 2], windows[None, :, 2])
        between += 2 * np.abs(np.log(windows[some, None, 2] / windows[None, :, 2]))
        votes.append((same * between.clip(max=0.5)).sum(1))
    return np.where(pointed[:, 2] > 16, np.concatenate(votes), 0.0)


def _reduced(photo: Photo) -> tuple[Photo, float]:
    """The photo as large as a search needs it, and how many times as large it was."""
    scale = min(photo.size) / _ENOUGH
    if scale <= 1:
        return photo, 1.0
    height, width = (round(length / scale) for length in photo.size)
    small = Image.fromarray(photo.pixels).resize((width, height), Image.Resampling.BOX, reducing_gap=2.0)
    return replace(photo, pixels=np.asarray(small)), scale


def _pair(values: Float[np.ndarray, "2"]) -> tuple[float, float]:
    x, y = values.tolist()
    return x, y


def _over_time(values: Float[np.ndarray, "frames n"], deviation: float) -> Float[np.ndarray, "frames n"]:
    """Smoothed: in each frame the value of a straight line through those around it, weighed by a Gaussian. What moves
    evenly is not held back, also at the ends."""
    at = np.arange(len(values), dtype=np.float64)
    calm = []
    for now in at:
        weights = np.sqrt(np.exp(-np.square(at - now) / (2 * max(deviation, 1e-3) ** 2)))
        lines = np.stack([np.ones_like(at), at - now], 1)
        calm.append(np.linalg.lstsq(weights[:, None] * lines, weights[:, None] * values, rcond=None)[0][0])
    return np.array(calm)


def _small(pictures: Float[Tensor, "batch 3 _ _"], size: int) -> Float[Tensor, "batch 3 size size"]:
    if pictures.shape[-1] == size:
        return pictures.clamp(-1, 1)
    return F.interpolate(pictures, (size, size), mode="area" if pictures.shape[-1] > size else "bilinear").clamp(-1, 1)


def crop_finder(name: str, model_sha256: str, generator: Generator) -> CropFinder | None:
    """The finder of a built-in model of that name and content; None: that model has none.

    Raises:
        CheckpointError: a file of its networks is damaged.
    """
    height, width = generator.image_size
    encoder = find_encoder(name, model_sha256)
    if encoder is None or height != width:
        return None
    try:
        return CropFinder(generator, find_landmarks(name), encoder)
    except ModelNotFound:
        return None
