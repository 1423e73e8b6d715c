"""What a drag is about and what stays the same while it runs: everything that a solver may ask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from draggan.config import DragConfig, at_size
from draggan.drag.latent_statistics import departure, latent_statistics, share_within
from draggan.drag.mask import FixedRegion
from draggan.drag.noise import Noise, nearest_noise
from draggan.drag.precision import compute_blended_features, compute_features
from draggan.drag.regime import Freedom, Regime
from draggan.generators.base import Generator, Latent
from draggan.generators.blending import Blend
from draggan.geometry import FeatureSampler, Grid, Windows, WindowSampler, cover, inside
from torch_utils.recorder import replayed
from torch_utils.transfer import to_host

__all__ = ["FeatureLevel", "Pattern", "Problem"]

# From this `DragConfig.max_departure` on there is no limit.
NO_LIMIT = 100.0
# Many handles describe another picture, which lies farther away than one handle should lead.
MANY_DEPARTURE = 4.0
# Two handles may ask for two changes that have nothing to do with each other.
TWO_DEPARTURE = 2**0.5
# With a mask part of a latent's way goes into holding the rest; no farther, it is neither led to the targets nor held.
MASKED_DEPARTURE = 2.0
# Along pictures that the model draws itself the latent of one handle may go as far as another one of them lies.
PICTURES_DEPARTURE = 4.0
# What matters there is how far it is from all of them: no farther than this share of `DragConfig.max_departure`.
ASTRAY = 0.3
# So near to a latent there must be a picture that the model draws itself, in root mean square distances of latents from
# their mean.
LARGEST_REST = 0.5
# Pulls by hand that follow one another may lead together so many times as far as one of them.
TOGETHER = 2.0
# Where two handles have moved against each other by more than this, image pixels at 512 px, the picture has been
# stretched, squeezed or turned between them: often the model gives way where they are, and the parts that they belong
# to stay. Of claims of random landmarks that moved against each other by 26 px 118 of 120 were true, by 38 px 123 of
# 154, by 51 px 340 of 476.
STRETCHED_BEYOND = 30.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Pattern:
    """The surroundings by which the content of a handle is known, and what they look like where it was clicked.

    Attributes:
        offsets: image pixels, the handle itself first.
        weights: how much a squared difference there counts, for every handle.
        features: of every handle.
        slopes: their derivatives by the position, per image pixel.
        mean: of all features of the picture that each handle was clicked in.
        clicked: where, image pixels.
        image_size: of the picture; what lies outside it does not count.
    """

    offsets: Float[Tensor, "p 2"]
    weights: Float[Tensor, "n p"]
    features: Float[Tensor, "n p channel"]
    slopes: Float[Tensor, "n p channel 2"]
    mean: Float[Tensor, "n channel"]
    clicked: Float[Tensor, "n 2"]
    image_size: tuple[int, int]

    def root_weights(self, handles: Float[Tensor, "n 2"]) -> Float[Tensor, "n p 1"]:
        """Roots of the weights, 0 for what is outside the picture here or where the handles were clicked."""
        here, there = (inside(points[:, None] + self.offsets, self.image_size) for points in (handles, self.clicked))
        valid = here & there
        valid[:, :1].fill_(True)  # not assigned: Python's own value would be brought to the device
        return (self.weights.sqrt() * valid)[:, :, None]

    @cached_property
    def leaves_out(self) -> bool:
        """Whether something around a handle does not count, as what lies towards the other one of two."""
        (weights,) = to_host(self.weights)
        return bool((weights == 0).any())

    @cached_property
    def between(self) -> Pattern | None:
        """By what lies towards the other one of two handles that share some of their surroundings; None of others.

        Otherwise that does not count (`draggan.drag.prepare`). The handle itself counts in both.
        """
        if len(self.weights) != 2 or not self.leaves_out:
            return None
        towards = self.clicked.flip(0) - self.clicked
        there = (self.offsets * towards[:, None]).sum(-1) >= -1e-3
        # What one of them leaves out counts for the other.
        return replace(self, weights=self.weights.amax(0) * there)

    @cached_property
    def radius(self) -> float:
        """How far around a handle it reaches, image pixels."""
        return float(self.offsets.norm(dim=-1).max())


@dataclass(frozen=True, kw_only=True, eq=False)
class FeatureLevel:
    """The features of one level, of the pictures that people see of latents.

    Attributes:
        name, grid: the level, and how it lies over the picture.
        dtype: in which type features are computed; they are returned as float32.
        device: where latents are.
        blend: what makes the picture that people see of a latent; None: the latent alone.
    """

    generator: Generator
    name: str
    grid: Grid
    dtype: torch.dtype
    device: torch.device
    blend: Blend | None

    def features(self, ws: Latent, windows: Windows | None = None) -> Float[Tensor, "n channel height width"]:
        """The whole map or windows of it."""
        if self.blend is None:
            return compute_features(self.generator, ws, self.name, self.dtype, windows)
        return compute_blended_features(self.generator, self.blend, ws, self.name, self.dtype, windows)

    def around(self, rows: Latent, points: Float[Tensor, "n 2"], reach: float) -> WindowSampler:
        """Features around points, computed there only; what it samples must lie within reach of the same point.

        Args:
            points: image pixels, on whichever side they are known.
        """
        windows, member = cover(points, reach, self.grid, device=self.device)
        return WindowSampler(FeatureSampler.of(self.features(rows, windows), self.grid, windows), member)

    def anywhere(self, features: Float[Tensor, "1 channel height width"]) -> FeatureSampler:
        """Samples of a whole map."""
        return FeatureSampler.of(features, self.grid)


@dataclass(frozen=True, kw_only=True, eq=False)
class Problem:
    """A drag without its progress.

    Attributes:
        level, grid: the feature level dragged on, and how it lies over the picture.
        dtype: in which type features are computed; they are returned as float32.
        ws: the latent the drag starts from.
        origin: the latent in which the first handle was clicked: ``ws``, or the one that a continued drag began with.
        led_from: of a pull by hand, the one that the pulls before it began with; None: there were none.
        handles: where its handles are in that picture, image pixels.
        patch: offsets of Omega_1, image pixels, the handle itself first.
        window: offsets of Omega_2, image pixels, nearest first.
        reach: how far around the place where a handle is looked for features are needed, image pixels.
        templates: the features of the handles' patches in the pictures they were clicked in; the handle itself first.
        regime: what kind of drag this is; rules that differ by that ask there.
        pattern: what Gauss-Newton steps and tracking by continuity know the handles by.
        clicked_together: all handles were clicked in one picture.
        find_second_pattern: computes `second_pattern`, for which many drags never ask.
        second_level: at which feature level content of few handles is looked for once more before anything is claimed;
            of many handles the one dragged on.
        mask: what the loss asks to leave as it is; None: nothing.
        blend: what makes the picture that people see of a latent, where a mask holds exactly; None: the latent alone.
        stop_distance: image pixels within which a handle has arrived.
        near: how near its target a handle is brought, image pixels: the stop distance, or less where a pointer is
            followed, or content of few handles, which is sent all the way.
        freedom: of Gauss-Newton steps.
        along_pictures: Gauss-Newton steps follow the pictures that the model draws itself, where its noise is known.
    """

    generator: Generator
    config: DragConfig
    level: str
    grid: Grid
    dtype: torch.dtype
    ws: Float[Tensor, "1 num_ws w_dim"]
    origin: Float[Tensor, "num_ws w_dim"]
    led_from: Float[Tensor, "num_ws w_dim"] | None
    handles: Float[Tensor, "n 2"]
    patch: Float[Tensor, "p 2"]
    window: Float[Tensor, "q 2"]
    reach: float
    templates: Float[Tensor, "n p channel"]
    pattern: Pattern
    clicked_together: bool
    find_second_pattern: Callable[[], Pattern]
    second_level: str
    regime: Regime
    mask: FixedRegion | None
    blend: Blend | None
    stop_distance: float
    near: float
    freedom: Freedom
    along_pictures: bool
    # The rows of ws for batches of these sizes. The same objects in every step: what a model computes from a row alone
    # it may keep while the row exists.
    _still: dict[int, tuple[Tensor, ...]] = field(default_factory=dict, init=False, repr=False)
    # `departures` of every shift that somebody still has.
    _departed: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary, init=False, repr=False)
    _contrasts: WeakTensorKeyDictionary = field(default_factory=WeakTensorKeyDictionary, init=False, repr=False)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the picture."""
        return self.generator.image_size

    @property
    def masked(self) -> bool:
        """See `Regime.masked`."""
        return self.regime.masked

    @property
    def follows(self) -> bool:
        """See `Regime.follows`."""
        return self.regime.follows

    @property
    def free_rows(self) -> int:
        """How many of the first rows move."""
        return min(self.config.free_rows, self.generator.num_ws)

    @property
    def shift_rows(self) -> int:
        """How many rows a shift has: in W+ one for each free row, in W 1 for all of them."""
        return self.free_rows if self.config.space == "w+" else 1

    @property
    def least_progress(self) -> float:
        """Less than this, summed over the handles, is no progress; image pixels."""
        least = self.pixels(self.config.stall_progress)
        # Many that are followed truly creep on for long, and hardly get nearer.
        return least * min(len(self.handles), 5) if self.regime.along_lines else least

    @cached_property
    def max_departure(self) -> float:
        """See `DragConfig.max_departure`; with many handles as far as another picture of the model lies.

        A drag that begins with less than half of it left, as one that goes on from where another has ended, has half of
        it left.
        """
        usual, most = self._usual_departure, PICTURES_DEPARTURE * self.config.max_departure
        (begun,) = to_host(self.departures(torch.zeros_like(self.ws[:, : self.shift_rows]))[:1])
        return max(usual, min(float(begun) + usual / 2, most))

    @property
    def _usual_departure(self) -> float:
        """That of a drag that begins where its handles were clicked."""
        if self.regime.many:
            times = MANY_DEPARTURE
        elif self.masked:
            times = MASKED_DEPARTURE
        elif self.noise is not None:
            times = PICTURES_DEPARTURE
        else:
            times = TWO_DEPARTURE if self.regime.pair else 1.0
        return times * self.config.max_departure

    @property
    def max_astray(self) -> float:
        """How far from the pictures that the model draws itself a latent may go, in distances between two of them."""
        return ASTRAY * self.config.max_departure

    @cached_property
    def noise(self) -> Noise | None:
        """From which the model draws the first latent, or one near it; None where steps do not go by that."""
        known = latent_statistics(self.generator) if self.along_pictures else None
        if known is None:
            return None
        noise = nearest_noise(self.generator, self.ws[0, : self.free_rows].mean(0))
        # Far from all pictures there are none to follow: a photo's latent, or the noise of another class.
        return None if noise is None or noise.rest > LARGEST_REST * known.size else noise

    @property
    def max_together(self) -> float:
        """`max_departure` of all pulls by hand together that follow one another."""
        return TOGETHER * self.max_departure

    @cached_property
    def second_pattern(self) -> Pattern:
        """What content is looked for by once more, at `second_level`; of many handles `pattern`."""
        return self.find_second_pattern()

    @cached_property
    def second_look(self) -> FeatureLevel:
        """Where content is looked for once more."""
        return self._at(self.second_level)

    @cached_property
    def _dragged_on(self) -> FeatureLevel:
        return self._at(self.level)

    def _at(self, level: str) -> FeatureLevel:
        return FeatureLevel(
            generator=self.generator,
            name=level,
            grid=self.generator.grid(level),
            dtype=self.dtype,
            device=self.ws.device,
            blend=self.blend,
        )

    @property
    def probe(self) -> tuple[Float[Tensor, "p 2"], Float[Tensor, "n p"] | None]:
        """From which change around a handle its motion is told in Gauss-Newton steps: offsets, and their weights."""
        return (self.patch, None) if self.regime.along_lines else (self.pattern.offsets, self.pattern.weights)

    @cached_property
    def probe_reach(self) -> float:
        """How far around a handle features are needed for that, and for the loss; image pixels."""
        return max(float(offsets.norm(dim=-1).max()) for offsets in (self.probe[0], self.patch)) + 1

    @property
    def clicked_at(self) -> Float[Tensor, "n 2"]:
        """Where the handles were before anything moved them, image pixels: all of it in one picture.

        Of handles that were clicked in several, where they are in the drag's first one.
        """
        return self.pattern.clicked if self.clicked_together else self.handles

    def moved_against(self, handles: Float[Tensor, "2 2"]) -> Float[Tensor, ""]:
        """How far one of two handles has moved against the other since, image pixels: 0 if both have moved alike."""
        one, other = handles - self.clicked_at
        return (other - one).norm()

    def stretched(self, handles: Float[Tensor, "2 2"]) -> Bool[Tensor, ""]:
        """Whether two handles have moved so far against each other that the picture may only have been stretched."""
        return self.moved_against(handles) > self.pixels(STRETCHED_BEYOND)

    def departures(self, shift: Float[Tensor, "1 shift_rows w_dim"]) -> Float[Tensor, "2"]:
        """How far the free rows have gone from where the drag began, see `latent_statistics.departure`.

        And, of pulls by hand, from where the first of those began that followed one another; 0 without such. Both are 0
        for a model of whose latents nothing is known, or where it does not matter how far.
        """
        if shift not in self._departed:
            with torch.no_grad():
                far = _departures(self._whitening, self.ws, self.free_rows, shift, self.origin, self.led_from)
            self._departed[shift] = far
        return self._departed[shift]

    def share_within(
        self, shift: Float[Tensor, "1 shift_rows w_dim"], step: Float[Tensor, "1 shift_rows w_dim"]
    ) -> Float[Tensor, ""]:
        """The largest share of a step from there, at most 1, that does not lead beyond `max_departure`."""
        if self._whitening is None:
            return shift.new_ones(())
        change = self.ws[0, : self.free_rows] + shift[0] - self.origin[: self.free_rows]
        # A little less, so that rounding does not lead beyond.
        return share_within(self._whitening, change, step[0], 0.999 * self.max_departure)

    @cached_property
    def _whitening(self) -> Float[Tensor, "w_dim w_dim"] | None:
        """The whitening matrix that departures are measured with.

        None where nobody asks how far, or nothing is known of the latents.
        """
        known = latent_statistics(self.generator) if self.config.max_departure < NO_LIMIT else None
        return None if known is None else known.whitening.to(self.ws)

    def contrast(self, shift: Float[Tensor, "1 shift_rows w_dim"]) -> float:
        """See `DragStep.contrast`: standard deviations over the picture, root mean square over channels."""
        if shift not in self._contrasts:
            before = self._first_variation
            self._contrasts[shift] = self._variation(self.rows(shift)) / before if before > 0 else 1.0
        return self._contrasts[shift]

    @cached_property
    def _first_variation(self) -> float:
        return self._variation((self.origin if self.led_from is None else self.led_from)[None])

    @torch.no_grad()
    def _variation(self, ws: Latent) -> float:
        """By how much features vary over a picture."""
        return float(self.features(ws).var((2, 3)).mean().sqrt())

    def pixels(self, length: float) -> float:
        """A length given at 512 px, in pixels of this picture."""
        return at_size(length, self.size)

    def rows(self, shift: Float[Tensor, "batch shift_rows w_dim"]) -> list[Tensor]:
        """The latent moved by each of these shifts, as rows; only those that move ask for a gradient."""
        batch = len(shift)
        if batch not in self._still:
            self._still[batch] = tuple(row.expand(batch, -1) for row in self.ws.unbind(1))
        moved = self.ws[:, : self.free_rows] + shift
        return [*moved.unbind(1), *self._still[batch][self.free_rows :]]

    def features(self, ws: Latent, windows: Windows | None = None) -> Float[Tensor, "n channel height width"]:
        """See `FeatureLevel.features`, of the level dragged on; likewise below."""
        return self._dragged_on.features(ws, windows)

    def latent_features(self, ws: Latent, windows: Windows | None = None) -> Float[Tensor, "n channel height width"]:
        """Of what the latent draws, whatever a mask holds: what is asked to leave the fixed region as it is."""
        return compute_features(self.generator, ws, self.level, self.dtype, windows)

    def around(self, rows: Latent, points: Float[Tensor, "n 2"], reach: float) -> WindowSampler:
        """See `FeatureLevel.around`."""
        return self._dragged_on.around(rows, points, reach)

    def anywhere(self, features: Float[Tensor, "1 channel height width"]) -> FeatureSampler:
        """See `FeatureLevel.anywhere`."""
        return self._dragged_on.anywhere(features)


@replayed
def _departures(
    whitening: Float[Tensor, "w_dim w_dim"] | None,
    ws: Float[Tensor, "1 num_ws w_dim"],
    rows: int,
    shift: Float[Tensor, "1 shift_rows w_dim"],
    origin: Float[Tensor, "num_ws w_dim"],
    led_from: Float[Tensor, "num_ws w_dim"] | None,
) -> Float[Tensor, "2"]:
    """See `Problem.departures`."""
    if whitening is None:
        return shift.new_zeros(2)
    there = ws[0, :rows] + shift[0]
    far = departure(whitening, there - origin[:rows])
    led = torch.zeros_like(far) if led_from is None else departure(whitening, there - led_from[:rows])
    return torch.stack([far, led])
