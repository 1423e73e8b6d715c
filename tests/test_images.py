import io
import json
import re
import stat
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from draggan.errors import ExportError, MaskError
from draggan.export import encode_animation, encode_picture, save_animation, save_picture
from draggan.images import draw_points, over_white, read_mask
from draggan.pixels import to_uint8

SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"


def test_bytes_follow_the_published_formula():
    x = torch.tensor([-2.0, -1.0, 0.0, 0.5, 1.0, 2.0]).reshape(1, 1, 1, 6).expand(1, 3, 1, 6)
    assert to_uint8(x)[0, :, 0].tolist() == [0, 0, 128, 191, 255, 255]


def test_grey_becomes_grey_and_opacity_stays():
    grey = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 1, 1, 3)
    assert to_uint8(grey)[0].tolist() == [[0, 0, 0], [128, 128, 128], [255, 255, 255]]
    clear = torch.tensor([[-1.0, 1.0], [-1.0, 1.0], [-1.0, 1.0], [1.0, -1.0]]).reshape(1, 4, 1, 2)
    assert to_uint8(clear)[0].tolist() == [[0, 0, 0, 255], [255, 255, 255, 0]]


def test_transparency_is_kept_in_png_and_shows_white_where_there_is_none():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 4), dtype=np.uint8)
    picture = Image.open(io.BytesIO(encode_picture(pixels)))
    assert picture.mode == "RGBA"
    assert np.array_equal(np.asarray(picture), pixels)
    pixels[..., 3] = 0
    assert (over_white(pixels) == 255).all()
    pixels[..., 3] = 255
    assert np.array_equal(over_white(pixels), pixels[..., :3])
    for suffix in (".gif", ".webp"):
        assert encode_animation([pixels, pixels], suffix)


def test_png_keeps_every_pixel_and_says_it_is_ai_made():
    pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
    picture = Image.open(io.BytesIO(encode_picture(pixels, ".png", {"seed": 7})))
    assert np.array_equal(np.asarray(picture), pixels)
    assert SOURCE_TYPE in picture.info["XML:com.adobe.xmp"]
    assert "AI-generated" in picture.info["Comment"]
    assert json.loads(picture.info["DragGAN"]) == {"seed": 7}


def test_a_saved_picture_is_whole_and_readable_by_others(tmp_path):
    path = save_picture(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    assert stat.S_IMODE(path.stat().st_mode) & 0o400
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.tiff", "nowhere/a.png"])
def test_a_picture_that_cannot_be_written_is_explained(tmp_path, name):
    with pytest.raises(ExportError, match="choose"):
        save_picture(tmp_path / name, np.zeros((4, 4, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "1", "P"])
def test_white_is_what_may_change(tmp_path, mode):
    array = np.zeros((6, 8), np.uint8)
    array[2:4, 3:] = 255
    Image.fromarray(array).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_mask(tmp_path / "m.png", (6, 8)), array > 0)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16"])
def test_one_is_white_where_nothing_is_larger(tmp_path, mode):
    array = np.zeros((6, 8), np.uint16 if mode == "I;16" else np.uint8)
    array[2:4, 3:] = 1

    def read():
        picture = Image.fromarray(array)
        (picture if mode == "I;16" else picture.convert(mode)).save(tmp_path / "m.png")
        return read_mask(tmp_path / "m.png", (6, 8))

    assert np.array_equal(read(), array > 0)
    array[0, 0] = 2
    assert not read().any()


def test_where_there_is_transparency_the_opaque_may_change(tmp_path):
    array = np.zeros((6, 8, 4), np.uint8)
    array[1:3, 1:3, 3] = 255
    Image.fromarray(array).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", (6, 8)).sum() == 4


def test_sixteen_bits_and_transparent_palettes_are_read_as_they_look(tmp_path):
    array = np.zeros((6, 8), np.uint16)
    array[:3], array[3:] = 20000, 50000
    Image.fromarray(array).save(tmp_path / "deep.png")
    assert np.array_equal(read_mask(tmp_path / "deep.png", (6, 8)), array > 32768)
    palette = Image.new("P", (8, 6), 0)
    palette.putpalette([255, 255, 255] * 256)
    palette.save(tmp_path / "palette.png", transparency=0)
    assert not read_mask(tmp_path / "palette.png", (6, 8)).any()


def test_a_mask_of_another_size_or_kind_is_named(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "m.png")
    with pytest.raises(MaskError, match=r"4 x 4.*8 x 6"):
        read_mask(tmp_path / "m.png", (6, 8))
    (tmp_path / "x.png").write_text("no picture")
    with pytest.raises(MaskError, match="cannot be read"):
        read_mask(tmp_path / "x.png", (6, 8))


def test_points_are_drawn_where_they_are_on_a_copy():
    pixels = np.zeros((16, 16, 3), np.uint8)
    drawn = draw_points(pixels, np.array([[4.0, 4.0]]), np.array([[12.0, 12.0]]), enlarge=4)
    assert drawn.shape == (64, 64, 3)
    assert drawn[18, 18, 0] > 200
    assert drawn[50, 50, 2] > 200
    assert pixels.max() == 0


def film(frames: int = 5) -> list[np.ndarray]:
    """A bright square that moves over a grey ground."""
    pictures = [np.full((12, 16, 3), 90, np.uint8) for _ in range(frames)]
    for i, picture in enumerate(pictures):
        picture[4:8, i % 12 : i % 12 + 4] = (250, 200, 30)
    return pictures


def blocks_of(gif: bytes) -> list[str]:
    """The blocks of a GIF as a reader walks over them that knows lengths and nothing else."""
    at, found = 13 + (3 << ((gif[10] & 7) + 1) if gif[10] & 0x80 else 0), []
    while gif[at] != 0x3B:
        if gif[at] == 0x21:
            found.append({0xFF: "application", 0xF9: "control", 0xFE: "comment"}[gif[at + 1]])
            at += 2
        else:
            assert gif[at] == 0x2C, f"no block begins at {at}"
            found.append("image")
            at += 10 + (3 << ((gif[at + 9] & 7) + 1) if gif[at + 9] & 0x80 else 0) + 1
        while gif[at]:
            at += gif[at] + 1
        at += 1
    assert at == len(gif) - 1
    return found


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_every_frame_and_says_it_is_ai_made(tmp_path, suffix):
    path = save_animation(tmp_path / f"a{suffix}", film(), {"seed": 7, "note": "a < b & c"}, seconds=0.1)
    data = path.read_bytes()
    xmp = ElementTree.fromstring(re.search(rb"<x:xmpmeta.*</x:xmpmeta>", data)[0])
    assert SOURCE_TYPE in [e.text for e in xmp.iter() if e.tag.endswith("DigitalSourceType")]
    facts = next(e.text for e in xmp.iter() if e.tag == "{urn:draggan:1.0/}details")
    assert json.loads(facts) == {"seed": 7, "note": "a < b & c"}
    with Image.open(path) as picture:
        assert picture.n_frames == 5
        assert picture.info["loop"] == 0
        for i, frame in enumerate(film()):
            picture.seek(i)
            assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - frame).mean() < 6
            assert picture.info["duration"] == (800 if i == 0 else 1600 if i == 4 else 100)


def test_a_gif_can_be_walked_over_by_readers_that_know_nothing_of_its_mark():
    found = blocks_of(encode_animation(film(3), ".gif", {"seed": 7}))
    assert found.count("image") == 3
    assert found[0] == "application"
    assert "comment" in found
    with Image.open(io.BytesIO(encode_animation(film(3), ".gif"))) as picture:
        assert b"AI-generated" in picture.info["comment"]


@pytest.mark.parametrize(("frames", "milliseconds"), [(3, 300), (10, 200), (33, 61), (60, 60)])
def test_few_pictures_are_shown_longer(frames, milliseconds):
    with Image.open(io.BytesIO(encode_animation(film(frames)[:frames], ".webp"))) as picture:
        assert picture.n_frames == frames
        picture.seek(1)
        picture.load()
        assert picture.info["duration"] == milliseconds


def test_what_is_no_animation_is_explained(tmp_path):
    with pytest.raises(ExportError, match=r"ends in \.gif, \.webp or \.mp4"):
        save_animation(tmp_path / "a.avi", film())
    with pytest.raises(ExportError, match="there is no frame"):
        encode_animation([], ".gif")
    with pytest.raises(ExportError, match="choose one that exists"):
        save_animation(tmp_path / "nowhere" / "a.gif", film())
    assert list(tmp_path.iterdir()) == []
