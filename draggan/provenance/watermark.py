"""A mark in the pixels that nobody sees and this installation finds again; it numbers every file that has left.

*Tiled spread spectrum*: a pattern of waves that repeats every 128 pixels is added to the luma. The phase of each wave
is drawn from a secret key. Two fifths of the waves are always there and say where the pattern lies; the others carry 64
bits (a random identity of 48 and a check of 16) by their signs, through a convolutional code. Waves of 4 to 28 pixels
survive JPEG and a change of size; that the pattern repeats makes it survive a crop. Sources: Cox, Kilian, Leighton and
Shamoon, "Secure spread spectrum watermarking for multimedia" (1997) for the idea; Kutter, "Watermarking resistant to
translation, rotation and scaling" (1998) for a pattern that repeats; Viterbi (1967) for reading the code; Kuglin and
Hines, "The phase correlation image alignment method" (1975) for finding the shift by phases alone.

*How often an unmarked picture is taken for a marked one* follows from the construction. For a picture that knows
nothing of the key, each wave's agreement with it is the cosine of a uniformly random angle, whatever the picture is.
Such a cosine is sub-Gaussian with variance 1/2, so n of them together reach ``score * sqrt(n / 2)`` with a probability
of at most ``exp(-score ** 2 / 2)`` (Chernoff's bound), times the number of places, sizes and orientations tried.

It is a label, not a proof. Who has many files of one installation can estimate the pattern, and take it out or put it
into another picture; turning by a few degrees, strong blur or a program made for it remove it.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
from jaxtyping import Bool, Complex, Float, Float32, Int, UInt8
from PIL import Image

__all__ = [
    "IDENTITY_BYTES",
    "MOST_OFTEN",
    "Found",
    "SpreadSpectrum",
    "Watermark",
    "evened_tile",
    "least_score",
]

IDENTITY_BYTES = 6
_TILE = 128  # pixels
_LOWEST, _HIGHEST = 4.5, 33.0  # waves in a tile, along their direction
_SYNC = 0.4  # part of the waves that say where the pattern lies
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# An unmarked picture is taken for a marked one at most this often, over everything that one search tries.
MOST_OFTEN = 1e-6
# The convolutional code of constraint length 7 and rate 1/3 (octal 133, 171, 165), ended by six zeros.
_POLYNOMIALS, _MEMORY = (0o133, 0o171, 0o165), 6
_MESSAGE_BITS = 8 * IDENTITY_BYTES + 16
_CODED_BITS = len(_POLYNOMIALS) * (_MESSAGE_BITS + _MEMORY)
# Standard deviation of the pattern in a picture of one tile, in levels of 255, where it is neither flat nor busy. A
# larger picture repeats the pattern, and each repetition may be fainter.
_STRENGTH = 2.2
# Of what is looked at: sides at most, in pixels, for one size and while sizes are searched; frames of a film.
_MOST_SIDE, _WINDOW, _MOST_FRAMES = 1024, 256, 12
_SMALLEST_SIDE = 24
# Sizes that are searched, as factors, so close to each other that a pattern between two of them is seen by both.
_SCALES = np.geomspace(0.4, 2.6, 310)
# The best of them are looked at closely.
_CLOSELY, _NEAR = 3, np.linspace(-0.006, 0.006, 9)
_USUAL_SIDES = (128, 256, 512, 1024)
_ORIENTATIONS = [(turned, mirrored) for mirrored in (False, True) for turned in (0, 90, 180, 270)]

# Places, sizes and orientations that one search tries at most: up to 14 sizes are likely, of all frames or the first.
_TRIED = (2 * 14 + len(_SCALES) + _CLOSELY * len(_NEAR)) * len(_ORIENTATIONS) * _TILE**2

Tile: TypeAlias = Float[np.ndarray, "128 128"]


@dataclass(frozen=True, kw_only=True)
class Found:
    """A mark that was found.

    Attributes:
        identity: 12 hexadecimal digits; None: a mark is there, but its number cannot be read.
        score: how far above chance the agreement with the key is, in standard deviations; None: not known.
        chance: at most this often an unmarked picture gives as much, over all that was tried; None: not known.
        scale: size of the picture when it was marked, over its size now.
        turned: by how many degrees it was turned since, clockwise: 0, 90, 180 or 270.
        mirrored: whether it was mirrored left to right, before it was turned.
    """

    identity: str | None
    score: float | None
    chance: float | None
    scale: float = 1.0
    turned: int = 0
    mirrored: bool = False


@runtime_checkable
class Watermark(Protocol):
    """What puts a mark into pixels and finds it."""

    name: str

    def embed(
        self, pixels: UInt8[np.ndarray, "height width channels"], identity: bytes
    ) -> UInt8[np.ndarray, "height width channels"]:
        """The picture with a mark that carries an identity of 6 bytes; opacity stays as it is."""

    def detect(
        self, frames: Sequence[UInt8[np.ndarray, "height width channels"]], *, until: float = math.inf
    ) -> Found | None:
        """The mark in a picture, or in pictures of one film that carry the same one; None: none was found.

        Args:
            until: by `time.monotonic`; what takes long is left out from then on.
        """


class SpreadSpectrum:
    """This project's own mark; see the head of the module.

    Args:
        key: secret; who has it can find, forge and remove marks.
    """

    name = "spread spectrum"

    def __init__(self, key: bytes) -> None:
        self._waves = _waves(hashlib.sha256(b"draggan watermark 1" + key).digest())

    def embed(
        self, pixels: UInt8[np.ndarray, "height width channels"], identity: bytes
    ) -> UInt8[np.ndarray, "height width channels"]:
        """See `Watermark`. Where the pattern begins depends on the identity, so that an average of many marked pictures
        does not show it.
        """
        colours = pixels[..., :3].astype(np.float32)
        luma = colours @ _LUMA
        height, width = luma.shape
        pattern = self._waves.pattern(identity)
        repeated = np.tile(pattern, (-(-height // _TILE), -(-width // _TILE)))[:height, :width]
        strength = _STRENGTH * (_TILE / math.sqrt(height * width)) ** (1 / 4)
        added = (min(max(strength, 1.0), 2.4) * _room(luma) * repeated).astype(np.float32)
        marked = np.clip(np.rint(colours + added[..., None]), 0, 255).astype(np.uint8)
        return np.concatenate([marked, pixels[..., 3:]], axis=2)

    def detect(
        self, frames: Sequence[UInt8[np.ndarray, "height width channels"]], *, until: float = math.inf
    ) -> Found | None:
        """See `Watermark`. Tries the size as it is, sizes that the picture is likely to have had, and then all from 0.4
        to 2.6 times it; each as it is, mirrored, and turned by right angles.
        """
        if not frames or min(frames[0].shape[:2]) < _SMALLEST_SIDE:
            return None
        frames = frames[:: -(-len(frames) // _MOST_FRAMES)]
        lumas = [frame[..., :3].astype(np.float32) @ _LUMA for frame in frames]
        # Many frames say as much together as one that is larger; a strongly compressed film has most in its first.
        most = round(_MOST_SIDE / math.sqrt(len(lumas)))
        least, best = least_score(), None
        for scale in _likely_scales(lumas[0].shape):
            for some, side in ((lumas, most), (lumas[:1], _MOST_SIDE))[: len(lumas)]:
                best = _better(best, self._waves.look(_folded(some, scale, side), scale))
                if best.score > least and best.message is not None:
                    return _told(best)
        coarse: list[_Sight] = []
        for scale in _SCALES:
            if time.monotonic() >= until:
                break
            # The first frames: what is seen here is looked at again.
            coarse.append(self._waves.look(_folded(lumas[:2], float(scale), _WINDOW), float(scale), read=False))
        for sight in sorted(coarse, key=lambda sight: -sight.score)[:_CLOSELY]:
            for scale in sight.scale * (1 + _NEAR):
                best = _better(best, self._waves.look(_folded(lumas, float(scale), most), float(scale)))
        return _told(best) if best is not None and best.score > least else None

    def score(self, tile: Tile) -> tuple[float, bool]:
        """How well a tile agrees with the key in its best orientation, and whether a number can be read there."""
        sight = self._waves.look(tile, 1.0)
        return sight.score, sight.message is not None


def least_score() -> float:
    """The score that counts as found: an unmarked picture reaches it at most `MOST_OFTEN` in all that is tried."""
    return math.sqrt(2 * math.log(_TRIED / MOST_OFTEN))


class _Sight(NamedTuple):
    """What is seen in a tile at one size, in the orientation that agrees best."""

    score: float
    scale: float
    turned: int
    mirrored: bool
    message: bytes | None  # the identity, if its check is right


def _better(best: _Sight | None, other: _Sight) -> _Sight:
    """One with a message that can be read goes before one without."""
    if best is None or (other.message is not None, other.score) > (best.message is not None, best.score):
        return other
    return best


def _told(sight: _Sight) -> Found:
    chance = _TRIED * math.exp(-(sight.score**2) / 2)
    return Found(
        identity=None if sight.message is None else sight.message.hex(),
        score=round(sight.score, 2),
        chance=min(chance, 1.0),
        scale=round(sight.scale, 4),
        turned=sight.turned,
        mirrored=sight.mirrored,
    )


@dataclass(frozen=True, eq=False)
class _Waves:
    """The waves of a key, n of them.

    Attributes:
        rows, columns: where they stand in the spectrum of a tile.
        up, across: waves in a tile, down and to the right.
        phases: of each, a number on the unit circle.
        bits: which coded bit each carries; -1: none, it says where the pattern lies.
    """

    rows: Int[np.ndarray, "n"]
    columns: Int[np.ndarray, "n"]
    up: Float[np.ndarray, "n"]
    across: Float[np.ndarray, "n"]
    phases: Complex[np.ndarray, "n"]
    bits: Int[np.ndarray, "n"]

    def pattern(self, identity: bytes) -> Tile:
        """One tile that carries an identity, with a standard deviation of 1."""
        signs = np.ones(len(self.bits))
        carries = self.bits >= 0
        signs[carries] = np.where(_coded(_with_check(identity))[self.bits[carries]], 1.0, -1.0)
        place = hashlib.sha256(b"place" + identity).digest()
        spectrum = np.zeros((_TILE, _TILE // 2 + 1), np.complex128)
        spectrum[self.rows, self.columns] = signs * self.phases * np.conj(self._shift(place[0], place[1]))
        tile = np.fft.irfft2(spectrum, s=(_TILE, _TILE))
        return tile / tile.std()

    def look(self, tile: Tile, scale: float, *, read: bool = True) -> _Sight:
        """Where in a tile, and in which orientation, it agrees best with the key, and what is written there."""
        sync = self.bits < 0
        correlations = np.zeros((_TILE, _TILE // 2 + 1), np.complex128)
        best: tuple[float, int, int, bool, np.ndarray] | None = None
        for turned, mirrored in _ORIENTATIONS:
            upright = np.rot90(tile, turned // 90)
            upright = upright[:, ::-1] if mirrored else upright
            waves = np.fft.rfft2(upright)[self.rows, self.columns]
            waves = waves / np.maximum(np.abs(waves), 1e-9) * np.conj(self.phases)
            correlations[self.rows[sync], self.columns[sync]] = waves[sync]
            # The sum over the waves of how well each agrees, for every shift at once.
            sums = np.fft.irfft2(correlations, s=(_TILE, _TILE)) * (_TILE**2 / 2)
            place = int(sums.argmax())
            score = float(sums.flat[place]) / math.sqrt(int(sync.sum()) / 2)
            if best is None or score > best[0]:
                best = (score, place, turned, mirrored, waves)
        assert best is not None
        score, place, turned, mirrored, waves = best
        message = self._read(waves, place) if read else None
        return _Sight(score, scale, turned, mirrored, message)

    def _read(self, waves: Complex[np.ndarray, "n"], place: int) -> bytes | None:
        agreement = np.real(waves * self._shift(*divmod(place, _TILE)))
        carries = self.bits >= 0
        message = _decoded(np.bincount(self.bits[carries], agreement[carries], _CODED_BITS))
        identity = message[:IDENTITY_BYTES]
        return identity if message == _with_check(identity) else None

    def _shift(self, rows: int, columns: int) -> Complex[np.ndarray, "n"]:
        """What takes each wave back by so many pixels."""
        return np.exp(2j * np.pi / _TILE * (self.up * rows + self.across * columns))


@functools.lru_cache(maxsize=8)
def _waves(seed: bytes) -> _Waves:
    random = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big")))
    up, across = np.meshgrid(np.fft.fftfreq(_TILE, 1 / _TILE), np.arange(_TILE // 2 + 1.0), indexing="ij")
    # A real pattern has each wave twice: one half of the plane is enough, without the column that is its own mirror.
    length = np.hypot(up, across)
    rows, columns = np.nonzero((length >= _LOWEST) & (length <= _HIGHEST) & (across > 0))
    order = random.permutation(len(rows))
    carriers = order[round(_SYNC * len(rows)) :]
    bits = np.full(len(rows), -1)
    bits[carriers] = np.arange(len(carriers)) % _CODED_BITS
    phases = np.exp(2j * np.pi * random.random(len(rows)))
    return _Waves(rows, columns, up[rows, columns], across[rows, columns], phases, bits)


# ---- pictures ------------------------------------------------------------------------------------------------------


def _likely_scales(shape: tuple[int, int]) -> list[float]:
    """Sizes that a picture of this size may have had when it was marked, the likeliest first."""
    fitting = [side / own for side in _USUAL_SIDES for own in shape]
    scales = [1.0, 2.0, 0.5, *fitting, 4.0, 1 / 4]
    return list(dict.fromkeys(scale for scale in scales if 0.25 <= scale <= 4))


def evened_tile(pixels: UInt8[np.ndarray, "height width channels"]) -> Tile:
    """What the key is compared with: a picture at its own size, its contrasts evened out, with all tiles summed."""
    return _folded([pixels[..., :3].astype(np.float32) @ _LUMA], 1.0, _MOST_SIDE)


def _folded(lumas: Sequence[Float32[np.ndarray, "height width"]], scale: float, most: int) -> Tile:
    """Pictures at a scale, their contrasts evened out, with all tiles laid over each other."""
    sums = np.zeros((_TILE, _TILE))
    for luma in lumas:
        height, width = luma.shape
        tall, wide = (max(1, min(round(most / scale), side)) for side in (height, width))
        top, left = (height - tall) // 2, (width - wide) // 2
        seen = luma[top : top + tall, left : left + wide]
        if scale != 1:
            size = (max(1, round(wide * scale)), max(1, round(tall * scale)))
            seen = np.asarray(Image.fromarray(seen).resize(size, Image.Resampling.BICUBIC))
        mean = _box(seen, 5)
        difference = seen - mean
        evened = difference / (np.sqrt(np.maximum(_box(difference * difference, 5), 0)) + 3)
        tall, wide = evened.shape
        whole = np.zeros((-(-tall // _TILE), _TILE, -(-wide // _TILE), _TILE))
        whole.reshape(whole.shape[0] * _TILE, -1)[:tall, :wide] = evened
        sums += whole.sum((0, 2))
    return sums


def _room(luma: Float32[np.ndarray, "height width"]) -> Float[np.ndarray, "height width"]:
    """How much a pattern may be stronger where it is: weaker in flat regions, where it would be seen."""
    mean = _box(luma, 4)
    deviation = np.sqrt(np.maximum(_box(luma * luma, 4) - mean * mean, 0))
    return np.clip(0.55 + deviation / 12, 0.55, 2.2)


def _box(values: Float[np.ndarray, "height width"], reach: int) -> Float[np.ndarray, "height width"]:
    """The mean over squares with sides of ``2 * reach + 1``; beyond the edges, what stands at them."""
    side = 2 * reach + 1
    sums = np.pad(np.pad(values, reach, "edge").astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    return (sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]) / side**2


# ---- bits ----------------------------------------------------------------------------------------------------------


def _with_check(identity: bytes) -> bytes:
    """The identity and its CRC-16 (CCITT, that begins with ones)."""
    check = 0xFFFF
    for byte in identity:
        check ^= byte << 8
        for _ in range(8):
            check = (check << 1 ^ 0x1021 if check & 0x8000 else check << 1) & 0xFFFF
    return identity + check.to_bytes(2, "big")


def _outputs() -> Bool[np.ndarray, "128 3"]:
    """The bits that the code gives for every content of its register."""
    contents = range(2 << _MEMORY)
    return np.array([[(content & p).bit_count() & 1 for p in _POLYNOMIALS] for content in contents], bool)


def _coded(message: bytes) -> Bool[np.ndarray, "coded"]:
    bits = np.unpackbits(np.frombuffer(message, np.uint8))
    outputs, register, coded = _outputs(), 0, []
    for bit in [*bits, *[0] * _MEMORY]:
        register = (register << 1 | int(bit)) & ((2 << _MEMORY) - 1)
        coded.append(outputs[register])
    return np.concatenate(coded)


def _decoded(soft: Float[np.ndarray, "coded"]) -> bytes:
    """The message whose code agrees best with soft bits (positive: one), by Viterbi's algorithm."""
    states = 1 << _MEMORY
    signs = np.where(_outputs(), 1.0, -1.0)
    best = np.full(states, -np.inf)
    best[0] = 0.0
    came: list[np.ndarray] = []
    for three in soft.reshape(-1, len(_POLYNOMIALS)):
        # A state is reached from two: with the bit that falls out of the register 0 or 1.
        ways = (best.repeat(2) + signs @ three).reshape(2, states)
        came.append(ways.argmax(0))
        best = ways.max(0)
    state, bits = 0, []
    for chosen in reversed(came):
        bits.append(state & 1)
        state = (state | int(chosen[state]) << _MEMORY) >> 1
    return np.packbits(bits[::-1][:_MESSAGE_BITS]).tobytes()
