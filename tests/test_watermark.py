"""The invisible mark: found after what happens to pictures, not found where it is not, and not seen."""

from __future__ import annotations

import functools
import io
import stat

import numpy as np
import pytest
from PIL import Image

from draggan.errors import ConfigError
from draggan.provenance import marks, watermark
from draggan.provenance.marks import own_watermark
from draggan.provenance.trustmark import TrustMark
from draggan.provenance.watermark import SpreadSpectrum

MARK = SpreadSpectrum(b"a key for tests, and only for them")
IDENTITY = bytes.fromhex("0123456789ab")


def drawing(side: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    """Smooth shapes with edges and some texture, as generators draw them."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    picture = np.stack([90 + 80 * np.sin(a * x + b * y + c) for a, b, c in random.uniform(-6, 6, (3, 3))], -1)
    for u, v, r in random.uniform(0.1, 0.6, (6, 3)):
        picture[(x - u - 0.2) ** 2 + (y - v - 0.2) ** 2 < (r / 3) ** 2] += random.uniform(-60, 60, 3)
    picture += random.normal(0, 2, picture.shape)
    pixels = np.clip(picture, 0, 255).astype(np.uint8)
    return pixels if channels == 3 else np.concatenate([pixels, np.full((side, side, 1), 77, np.uint8)], 2)


@functools.cache
def marked(side: int) -> np.ndarray:
    return MARK.embed(drawing(side), IDENTITY)


def written(pixels: np.ndarray, form: str, **options: object) -> np.ndarray:
    buffer = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.quantize(256) if form == "GIF" else image).save(buffer, form, **options)
    return np.asarray(Image.open(buffer).convert("RGB"))


def resized(pixels: np.ndarray, factor: float) -> np.ndarray:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor)), 1))


ATTACKS = {
    "nothing": lambda pixels: pixels,
    "jpeg 75": lambda pixels: written(pixels, "JPEG", quality=75),
    "half size": lambda pixels: resized(pixels, 0.5),
    "a tenth cropped": lambda pixels: pixels[len(pixels) // 13 : -len(pixels) // 43, len(pixels) // 10 :],
    "webp 90": lambda pixels: written(pixels, "WEBP", quality=90),
    "gif": lambda pixels: written(pixels, "GIF"),
    "mirrored": lambda pixels: pixels[:, ::-1],
    "turned left": lambda pixels: np.rot90(pixels),
}


@pytest.mark.parametrize("side", [128, 512])
@pytest.mark.parametrize("attack", ATTACKS)
def test_the_number_is_read_after(attack, side):
    found = MARK.detect([np.ascontiguousarray(ATTACKS[attack](marked(side)))])
    assert found is not None
    assert found.identity == IDENTITY.hex()
    assert found.chance < 1e-6
    assert found.scale == pytest.approx({"half size": 2.0}.get(attack, 1.0))
    assert (found.mirrored, found.turned) == {"mirrored": (True, 0), "turned left": (False, 270)}.get(
        attack, (False, 0)
    )


def test_any_size_is_found_by_searching():
    found = MARK.detect([resized(marked(256), 0.83)])
    assert found is not None
    assert found.identity == IDENTITY.hex()
    assert found.scale == pytest.approx(1 / 0.83, rel=0.005)


def test_mirrored_and_turned_is_told_as_it_was_done():
    for turned in (0, 90, 180, 270):
        for mirrored in (False, True):
            pixels = marked(128)[:, ::-1] if mirrored else marked(128)
            found = MARK.detect([np.ascontiguousarray(np.rot90(pixels, -turned // 90))])
            assert found is not None
            assert (found.turned, found.mirrored) == (turned, mirrored)


def test_nobody_sees_it():
    for side, least in ((128, 36.0), (512, 41.0)):
        error = np.mean((marked(side).astype(float) - drawing(side)) ** 2)
        assert 10 * np.log10(255**2 / error) > least
        # Small everywhere, and no brighter or darker on the whole.
        difference = marked(side).astype(int) - drawing(side)
        assert np.abs(difference).max() <= 24
        assert abs(difference.mean()) < 0.1


def test_opacity_stays_and_grey_is_no_question():
    pixels = drawing(128, channels=4)
    assert np.array_equal(MARK.embed(pixels, IDENTITY)[..., 3], pixels[..., 3])
    for value in (0, 128, 255):
        MARK.embed(np.full((128, 128, 3), value, np.uint8), IDENTITY)


def test_frames_of_a_film_are_read_together():
    """Each alone is too damaged; the mark is the same in all."""
    random = np.random.default_rng(5)
    film = []
    for seed in range(8):
        noisy = MARK.embed(drawing(128, seed), IDENTITY) + random.normal(0, 16, (128, 128, 3))
        film.append(np.clip(noisy, 0, 255).astype(np.uint8))
    found = MARK.detect(film)
    assert found is not None
    assert found.identity == IDENTITY.hex()


@pytest.fixture
def quick(monkeypatch):
    """Fewer sizes: what is not there is looked for everywhere, which takes seconds."""
    monkeypatch.setattr(watermark, "_SCALES", np.geomspace(0.5, 2, 5))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("pixels", [drawing(128, 7), np.zeros((128, 128, 3), np.uint8), drawing(90, 8)[:40]])
def test_what_is_not_marked_is_not_found(pixels):
    assert MARK.detect([pixels]) is None


@pytest.mark.usefixtures("quick")
def test_another_key_finds_nothing():
    assert SpreadSpectrum(b"the key of somebody else").detect([marked(128)]) is None


@pytest.mark.usefixtures("quick")
def test_too_small_or_nothing_is_no_error():
    assert MARK.detect([]) is None
    assert MARK.detect([np.zeros((8, 200, 3), np.uint8)]) is None


def test_the_score_of_unmarked_pictures_is_bounded_as_it_is_said():
    """Over many keys, the score at one place exceeds s no more often than exp(-s**2 / 2)."""
    tile = watermark._folded([drawing(256).astype(np.float32) @ watermark._LUMA], 1.0, 1024)
    waves = np.fft.rfft2(tile)
    random, scores = np.random.default_rng(3), []
    some = watermark._waves(bytes(32))
    seen = waves[some.rows, some.columns]
    seen = (seen / np.abs(seen))[some.bits < 0]
    for _ in range(20_000):
        phases = np.exp(2j * np.pi * random.random(len(seen)))
        scores.append(np.real(seen * phases).sum() / np.sqrt(len(seen) / 2))
    for score in (1.0, 2.0, 3.0):
        assert np.mean(np.array(scores) > score) < np.exp(-(score**2) / 2)
    # And the search itself: the best of 16384 places and 8 orientations, over twenty other keys.
    best = [watermark._waves(bytes([i]) * 32).look(tile, 1.0, read=False).score for i in range(20)]
    assert max(best) < np.sqrt(2 * np.log(20 * 8 * 128**2 / 0.01))


def test_averages_of_many_marked_pictures_do_not_show_where_the_pattern_lies():
    """The pattern begins elsewhere in each: one that is averaged over 40 files is faint."""
    flat = np.full((128, 128, 3), 128, np.uint8)
    random = np.random.default_rng(0)
    several = [MARK.embed(flat, random.bytes(6)).astype(float)[..., 0] - 128 for _ in range(40)]
    assert np.mean(several, 0).std() < 0.25 * several[0].std()


def test_a_code_corrects_a_twentieth_of_its_bits():
    random = np.random.default_rng(1)
    for _ in range(20):
        message = watermark._with_check(random.bytes(6))
        soft = np.where(watermark._coded(message), 1.0, -1.0)
        soft[random.choice(len(soft), len(soft) // 20, replace=False)] *= -1
        assert watermark._decoded(soft) == message


def test_the_key_is_made_once_kept_for_its_owner_and_can_be_given(tmp_path, monkeypatch):
    monkeypatch.delenv("DRAGGAN_WATERMARK_KEY", raising=False)
    pixels = own_watermark(tmp_path / "one").embed(drawing(128), IDENTITY)
    file = tmp_path / "one" / "watermark.key"
    assert len(file.read_bytes()) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    marks._key_in.cache_clear()
    assert np.array_equal(own_watermark(tmp_path / "one").embed(drawing(128), IDENTITY), pixels)
    assert not np.array_equal(own_watermark(tmp_path / "two").embed(drawing(128), IDENTITY), pixels)
    monkeypatch.setenv("DRAGGAN_WATERMARK_KEY", "sixteen letters and more")
    first = own_watermark(tmp_path / "three").embed(drawing(128), IDENTITY)
    assert np.array_equal(own_watermark(tmp_path / "four").embed(drawing(128), IDENTITY), first)
    assert not (tmp_path / "three").exists()
    monkeypatch.setenv("DRAGGAN_WATERMARK_KEY", "short")
    with pytest.raises(ConfigError, match="at least 16"):
        own_watermark(tmp_path)


class Learned:
    """Stands for the package's model, as its documentation describes it: 61 bits as text of zeros and ones."""

    def __init__(self, room: int = 61) -> None:
        self.room, self.kept = room, ""

    def schemaCapacity(self) -> int:
        return self.room

    def encode(self, cover: Image.Image, bits: str, MODE: str) -> Image.Image:
        assert (MODE, len(bits), cover.mode) == ("binary", self.room, "RGB")
        self.kept = bits
        return cover

    def decode(self, stego: Image.Image, MODE: str) -> tuple[str, bool, int]:
        return self.kept, bool(self.kept), 1


def test_trustmark_stands_behind_the_same_two_functions(monkeypatch, tmp_path):
    model = Learned()
    mark = TrustMark(model)
    pixels = drawing(64, channels=4)
    assert mark.detect([pixels]) is None
    assert np.array_equal(mark.embed(pixels, IDENTITY), pixels)
    found = mark.detect([pixels])
    assert found is not None
    assert (found.identity, found.chance) == (IDENTITY.hex(), None)
    model.kept = model.kept[:-1] + "1"
    assert mark.detect([pixels]) is None
    with pytest.raises(ConfigError, match="carries 40 bits"):
        TrustMark(Learned(40))
    monkeypatch.setenv("DRAGGAN_WATERMARK", "trustmark")
    with pytest.raises(ConfigError, match="pip install trustmark"):
        own_watermark(tmp_path)
    monkeypatch.setenv("DRAGGAN_WATERMARK", "none")
    with pytest.raises(ConfigError, match="give own or trustmark"):
        own_watermark(tmp_path)


def test_where_no_key_can_be_kept_pictures_are_still_marked(tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")
    own_watermark(tmp_path / "file").embed(drawing(64), IDENTITY)
    assert "no key can be kept" in caplog.text
