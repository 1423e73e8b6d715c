"""Photos come in whole and upright or with a sentence, are cut as asked, and go back to where they were."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from draggan.errors import DragGANError, PhotoError
from draggan.inversion import Crop, Photo, aligned_face, box, centred, cut, paste, read_crop, read_photo
from draggan.photo import MOST_PIXELS


def wave(height: int, width: int) -> np.ndarray:
    """A smooth picture in colour, no two sides alike."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    values = np.stack([x, y, (x + y) / 2], -1) * 200 + 20 * np.sin(9 * x)[..., None] + 25
    return values.clip(0, 255).astype(np.uint8)


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


WAVE = wave(40, 60)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_upright_as_its_exif_says(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    # What a camera stores so that the tag brings it back.
    back = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1]}
    back |= {
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    }
    back |= {8: lambda a: np.rot90(a, -1)}
    stored = np.ascontiguousarray(back[orientation](WAVE))
    photo = read_photo(encoded(Image.fromarray(stored), exif=exif))
    np.testing.assert_array_equal(photo.pixels, WAVE)


def test_every_mode_becomes_three_channels_of_bytes():
    colour = Image.fromarray(WAVE)
    grey = np.asarray(colour.convert("L"))
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for data, wanted, most in (
        (encoded(colour), WAVE, 0),
        (encoded(colour.convert("L")), grey[..., None].repeat(3, 2), 0),
        (encoded(deep), grey[..., None].repeat(3, 2), 0),
        (encoded(deep, "TIFF"), grey[..., None].repeat(3, 2), 0),
        (encoded(colour.convert("CMYK"), "TIFF"), WAVE, 3),
        (encoded(colour.quantize(200)), WAVE, 40),
        (encoded(colour, "WEBP", lossless=True), WAVE, 0),
        (encoded(colour, "BMP"), WAVE, 0),
        (encoded(colour.convert("1")), None, 0),
    ):
        photo = read_photo(data)
        assert photo.pixels.shape == WAVE.shape
        assert photo.pixels.dtype == np.uint8
        if wanted is not None:
            assert np.abs(photo.pixels.astype(int) - wanted).max() <= most


def test_what_is_transparent_shows_white():
    alpha = np.full((40, 60, 1), 255, np.uint8)
    alpha[:20] = 0
    photo = read_photo(encoded(Image.fromarray(np.concatenate([WAVE, alpha], 2))))
    assert (photo.pixels[:20] == 255).all()
    np.testing.assert_array_equal(photo.pixels[20:], WAVE[20:])
    paletted = Image.fromarray(WAVE).quantize(16)
    paletted.info["transparency"] = 0
    assert read_photo(encoded(paletted, transparency=0)).pixels.shape == WAVE.shape


def test_nothing_but_pixels_is_kept(tmp_path):
    exif = Image.Exif()
    exif[0x9286] = "where I live"
    path = tmp_path / "holiday.jpg"
    path.write_bytes(encoded(Image.fromarray(WAVE), "JPEG", exif=exif, comment=b"where I live"))
    photo = read_photo(path)
    assert b"where I live" not in photo.pixels.tobytes()
    assert photo.name == "holiday.jpg"
    assert not photo.pixels.flags.writeable


def _png_of_size(width: int, height: int) -> bytes:
    """A PNG that says it is that large, with next to nothing in it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 9)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not a picture"),
        (b"hello" * 100, "not a picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a picture"),
        (b"\x80\x04cos\nsystem\n(S'true'\ntR.", "not a picture"),
        (encoded(Image.fromarray(WAVE[:1, :1])), "1 x 1"),
        (encoded(Image.fromarray(WAVE[:1])), "60 x 1"),
        (_png_of_size(10_000, 10_000), "too large"),
        (_png_of_size(2**31 - 1, 2**31 - 1), "too large"),
        (_png_of_size(500, 500), "damaged"),
        (encoded(Image.fromarray(WAVE))[:-200], "damaged"),
        (encoded(Image.fromarray(WAVE), "TIFF")[:200], "photo"),
        (encoded(Image.fromarray(WAVE), "JPEG")[:300], "damaged"),
    ],
)
def test_a_bad_file_ends_in_a_sentence(data, said):
    with pytest.raises(PhotoError, match=said) as caught:
        read_photo(data, "mine.png")
    assert "mine.png" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_ends_in_a_sentence(tmp_path):
    with pytest.raises(PhotoError, match="cannot read"):
        read_photo(tmp_path / "nothing.png")


@given(cut_at=st.integers(0, 2000), at=st.integers(8, 2000), value=st.integers(0, 255))
def test_a_changed_file_is_read_or_refused(cut_at, at, value):
    data = bytearray(encoded(Image.fromarray(WAVE), "JPEG"))
    data[at % len(data)] = value
    with suppress(PhotoError):
        assert read_photo(bytes(data[: len(data) - cut_at % 50])).pixels.shape[2] == 3


def test_the_same_pixels_are_the_same_photo():
    assert read_photo(encoded(Image.fromarray(WAVE))).sha256 == read_photo(encoded(Image.fromarray(WAVE), "BMP")).sha256


# ---- cutting -------------------------------------------------------------------------------------------------------


def photo_of(pixels: np.ndarray) -> Photo:
    return Photo(pixels=pixels)


def test_the_whole_photo_is_cut_out_as_it_is():
    photo = photo_of(wave(64, 64))
    np.testing.assert_array_equal(cut(photo, centred(photo, (64, 64)), (64, 64)), photo.pixels)


def test_a_box_is_cut_where_it_is_and_takes_the_shape_of_the_model():
    photo = photo_of(wave(200, 300))
    crop = box(photo, (99.5, 49.5), (163.5, 113.5), (64, 64))
    np.testing.assert_array_equal(cut(photo, crop, (64, 64)), photo.pixels[50:114, 100:164])
    wide = box(photo, (50, 50), (150, 60), (32, 64))
    assert np.hypot(*wide.right) / np.hypot(*wide.down) == pytest.approx(2)


def test_a_smaller_picture_is_the_average_of_what_it_shows():
    rng = np.random.default_rng(0)
    photo = photo_of(rng.integers(0, 256, (256, 256, 3), np.uint8))
    small = cut(photo, centred(photo, (32, 32)), (32, 32))
    means = photo.pixels.reshape(32, 8, 32, 8, 3).mean((1, 3))
    # Not exactly: a sample is a cubic one of four means.
    assert np.abs(small - means).mean() < 6
    assert small.std() < 15


def test_beyond_its_edges_a_photo_is_mirrored():
    photo = photo_of(wave(64, 64))
    crop = Crop(centre=(31.5, 31.5), right=(64.0, 0.0), down=(0.0, 64.0))
    seen = cut(photo, crop, (128, 128))
    np.testing.assert_array_equal(seen[32:96, 32:96], photo.pixels)
    np.testing.assert_array_equal(seen[32:96, :32], photo.pixels[:, :32][:, ::-1])


def test_a_face_is_cut_upright_whatever_way_it_is_turned():
    """From eyes and mouth as FFHQ cuts: the same picture for a photo and for the photo turned by a quarter."""
    pixels = wave(400, 400)
    photo, turned = photo_of(pixels), photo_of(np.ascontiguousarray(np.rot90(pixels)))
    eyes_mouth = [(170.0, 180.0), (230.0, 180.0), (200.0, 250.0)]
    upright = cut(photo, aligned_face(photo, *eyes_mouth), (64, 64))
    there = [(y, 399 - x) for x, y in eyes_mouth]
    seen = cut(turned, aligned_face(turned, *there), (64, 64))
    assert np.abs(seen.astype(int) - upright).max() <= 2
    # The paper: the side is 3.6 times eyes to mouth here, the centre a tenth of that below the eyes.
    crop = aligned_face(photo, *eyes_mouth)
    assert 2 * np.hypot(*crop.right) == pytest.approx(3.6 * 70)
    assert crop.centre == pytest.approx((200, 187))
    assert crop.right[1] == pytest.approx(0)
    swapped = aligned_face(photo, eyes_mouth[1], eyes_mouth[0], eyes_mouth[2])
    assert swapped == crop


@pytest.mark.parametrize(
    "make",
    [
        lambda photo: box(photo, (5, 5), (6, 6), (64, 64)),
        lambda photo: box(photo, (500, 500), (600, 600), (64, 64)),
        lambda photo: box(photo, (-9000, -9000), (9000, 9050), (64, 64)),
        lambda photo: aligned_face(photo, (10, 10), (10, 10), (10, 10)),
        lambda photo: box(photo, (float("nan"), 0), (60, 60), (64, 64)),
        lambda photo: read_crop([[0, 0], [1, 2]]),
        lambda photo: read_crop("everything"),
        lambda photo: read_crop([[0, 0], [20, 0], [20, 1]]),
    ],
)
def test_a_crop_that_cannot_be_ends_in_a_sentence(make):
    with pytest.raises(DragGANError):
        make(photo_of(wave(80, 80)))


def test_points_go_to_the_crop_and_back():
    crop = Crop(centre=(100.0, 50.0), right=(30.0, 10.0), down=(-10.0, 30.0))
    points = [(0.0, 0.0), (10.0, 40.0), (63.0, 63.0)]
    np.testing.assert_allclose(crop.to_crop(crop.to_photo(points, (64, 64)).tolist(), (64, 64)), points, atol=1e-9)


# ---- pasting -------------------------------------------------------------------------------------------------------

TURNED = Crop(centre=(130.0, 90.0), right=(55.0, 20.0), down=(-20.0, 55.0))


def test_outside_the_crop_nothing_changes_and_inside_the_new_picture_is_seen():
    photo = photo_of(wave(200, 260))
    red = np.zeros((64, 64, 3), np.uint8) + np.array([255, 0, 0], np.uint8)
    result = paste(photo, TURNED, red)
    changed = (result != photo.pixels).any(2)
    y, x = np.nonzero(changed)
    at = TURNED.to_crop(list(zip(x.tolist(), y.tolist(), strict=True)), (64, 64))
    assert at.min() >= -0.5
    assert at.max() <= 63.5
    np.testing.assert_array_equal(result[90, 130], [255, 0, 0])
    assert changed.sum() > 0.8 * 4 * (55**2 + 20**2)


def test_only_what_has_changed_is_pasted():
    """The rest keeps the photo's own resolution to the last bit."""
    photo = photo_of(np.random.default_rng(0).integers(0, 256, (300, 300, 3), np.uint8))
    crop = centred(photo, (64, 64))
    before = cut(photo, crop, (64, 64))
    after = before.copy()
    after[28:36, 28:36] = 255
    result = paste(photo, crop, after, before=before)
    changed = (result != photo.pixels).any(2)
    assert (result[140:160, 140:160] == 255).all()
    rows, columns = np.nonzero(changed)
    assert rows.min() > 100
    assert rows.max() < 200
    assert columns.min() > 100
    assert columns.max() < 200
    np.testing.assert_array_equal(paste(photo, crop, before, before=before), photo.pixels)


def test_outside_a_mask_nothing_is_pasted():
    photo = photo_of(wave(256, 256))
    crop = centred(photo, (64, 64))
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:40] = True
    result = paste(photo, crop, np.zeros((64, 64, 3), np.uint8), mask=mask)
    seen = (result != photo.pixels).any(2)
    allowed = mask.repeat(4, 0).repeat(4, 1)
    assert not (seen & ~allowed).any()
    assert (result[128, 112] == 0).all()


def test_a_paste_fades_in():
    """Along a line into the crop no step is larger than an eighth of the whole difference."""
    photo = photo_of(np.full((256, 256, 3), 255, np.uint8))
    crop = Crop(centre=(119.5, 95.5), right=(96.0, 0.0), down=(0.0, 96.0))
    result = paste(photo, crop, np.zeros((64, 64, 3), np.uint8))
    line = result[128, :128, 0].astype(int)
    assert (line[:24] == 255).all()
    assert line[-1] == 0
    assert np.abs(np.diff(line)).max() <= 32
    # But for the upper edge, at which the photo ends, too: beside it there is nothing that it could fade into.
    assert (result[:128, 128] == 0).all()
    assert (result[192:, 128] == 255).all()


def test_a_photo_of_many_megapixels_is_cut_and_pasted():
    photo = photo_of(np.zeros((4000, 6000, 3), np.uint8))
    assert photo.pixels.size // 3 < MOST_PIXELS
    crop = centred(photo, (64, 64))
    assert cut(photo, crop, (64, 64)).shape == (64, 64, 3)
    small = Crop(centre=(3000.0, 2000.0), right=(200.0, 0.0), down=(0.0, 200.0))
    result = paste(photo, small, np.full((64, 64, 3), 9, np.uint8))
    assert result[2000, 3000].tolist() == [9, 9, 9]
