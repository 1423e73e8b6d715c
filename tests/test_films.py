"""A film becomes latents of every frame and one tuning, and goes back with an edit on each."""

from __future__ import annotations

import json
import subprocess
import weakref

import numpy as np
import pytest
import torch
from PIL import Image

from draggan.cli import main
from draggan.config import InversionConfig
from draggan.errors import DragGANError, LatentError, PhotoError
from draggan.export import has_sound, save_animation
from draggan.inversion import Inversion
from draggan.inversion.film import invert_film, smoothed
from draggan.inversion.film_edit import carried, corresponding, followed, strengths
from draggan.inversion.frames import Clip
from draggan.moderation.verdict import Subject, Verdict
from draggan.pixels import to_uint8
from draggan.provenance.deployment import default
from draggan.reel import Reel
from draggan.terminal import Watched
from tests.conftest import tiny_stylegan2
from tests.marks import marks_of
from tests.toys import BumpGenerator


class Alive:
    """Copies of frames, and how many there were at most at a time."""

    def __init__(self) -> None:
        self.now = self.most = 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        copied = pixels.copy()
        self.now += 1
        self.most = max(self.most, self.now)
        weakref.finalize(copied, self._gone)
        return copied

    def _gone(self) -> None:
        self.now -= 1


def test_frames_are_found_one_after_the_other_and_share_their_weights():
    model = tiny_stylegan2()
    a, b = model.sample(1, 0.5), model.sample(2, 0.5)
    crops = [to_uint8(model.synthesis(a + share * 0.1 * (b - a))) for share in range(4)]
    first = InversionConfig(coarse_steps=0, steps=40)
    alive = Alive()
    steps = list(invert_film(model, Reel(alive, crops), first=first, steps=20))
    assert alive.most <= 2
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert all(step.film is None for step in steps[:-1])
    film = steps[-1].film
    assert film is not None
    assert film.ws.shape == (4, model.num_ws, model.w_dim)
    drawn = list(film.pictures())
    error = np.mean([np.abs(one.astype(int) - crop).mean() for one, crop in zip(drawn, crops, strict=True)])
    plain = np.abs(to_uint8(model.synthesis(film.ws[:1])).astype(int) - crops[0]).mean()
    assert error < plain
    moved = list(film.pictures(0.5 * (b - a)))
    assert all((one != other).any() for one, other in zip(moved, drawn, strict=True))


def test_no_frame_of_a_larger_model_is_tuned_on_its_own(monkeypatch):
    """The model's pictures are larger than those on which latents are found."""
    monkeypatch.setattr("draggan.inversion.invert._FINE", 16)
    parts = []

    def made(*args, **how) -> Inversion:
        parts.append(Inversion(*args, **how))
        return parts[-1]

    monkeypatch.setattr("draggan.inversion.film.Inversion", made)
    model = tiny_stylegan2()
    first = InversionConfig(coarse_steps=4, steps=4, full_size_steps=7, rate=0.2)
    steps = list(invert_film(model, [to_uint8(model.synthesis(model.sample(1, 0.5)))] * 3, first=first, steps=3))
    assert [{part.stage for part in inversion.plan} for inversion in parts] == [{"latent"}] * 3
    assert parts[0]._config.rate == 0.2
    assert max(step.progress for step in steps) <= 1


def test_smoothing_keeps_what_stands_still_and_calms_what_flickers():
    ws = torch.ones(9, 2, 3)
    torch.testing.assert_close(smoothed(ws, 2.0), ws)
    flicker = torch.tensor([1.0, -1.0] * 5)[:, None, None].expand(10, 2, 3)
    assert smoothed(flicker, 1.0)[2:-2].abs().max() < 0.1
    assert smoothed(flicker, 0.0) is flicker
    with pytest.raises(LatentError):
        smoothed(ws, -1.0)


def test_content_is_followed_and_found_in_another_picture():
    model = BumpGenerator([(20.0, 30.0), (44.0, 40.0)])
    here, other = torch.zeros(1, 8, 4), torch.zeros(1, 8, 4)
    other[..., 0] = 0.06  # the first bump six pixels to the right
    points = torch.tensor([[20.0, 30.0], [44.0, 40.0]])
    moved = points + torch.tensor([[6.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(corresponding(model, here, other, points), moved, atol=1.5, rtol=0)
    torch.testing.assert_close(followed(model, here, other, points), moved, atol=1.5, rtol=0)


def test_a_point_goes_along_with_the_landmarks_around_it():
    first = torch.tensor([[10.0, 10.0], [20.0, 10.0], [100.0, 100.0], [110.0, 90.0], [90.0, 90.0]])
    second = first + torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 7.0], [0.0, 7.0], [0.0, 7.0]])
    points = torch.tensor([[10.0, 10.0], [15.0, 10.0], [100.0, 95.0]])
    there = carried(points, first, second)
    torch.testing.assert_close(there[0], torch.tensor([15.0, 10.0]), atol=0.1, rtol=0)
    torch.testing.assert_close(there[1], torch.tensor([20.0, 10.0]), atol=0.3, rtol=0)
    torch.testing.assert_close(there[2], torch.tensor([100.0, 102.0]), atol=0.3, rtol=0)


def test_an_edit_is_as_strong_on_a_film_as_where_it_was_made():
    """Of a model whose content goes twice as far with the same step."""
    model, film = BumpGenerator([(24.0, 30.0)]), BumpGenerator([(24.0, 30.0)])
    film.gain = 2 * model.gain
    offset, points = torch.zeros(1, 8, 4), torch.tensor([[24.0, 30.0]])
    offset[..., 0] = 0.08
    frames = torch.zeros(5, 8, 4)
    frames[:, :, 1] = torch.linspace(0, 0.03, 5)[:, None]
    strong = strengths(model, torch.zeros(1, 8, 4), offset, points, film, frames)
    torch.testing.assert_close(strong, torch.full((5,), 0.5), atol=0.1, rtol=0)
    # Where nothing can be told, it is made as it is.
    none = strengths(model, torch.zeros(1, 8, 4), 0 * offset, points, film, frames)
    torch.testing.assert_close(none, torch.ones(5))


def test_no_film_ends_in_a_sentence(tmp_path):
    with pytest.raises(PhotoError, match="no frame"):
        list(invert_film(tiny_stylegan2(), []))
    for name, content in (("a.mp4", b"no film"), ("a.gif", b"GIF89a"), ("a.webp", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DragGANError) as caught:
            Clip(tmp_path / name)
        assert name in str(caught.value) or "pip install" in str(caught.value)
    with pytest.raises(PhotoError, match="no such file"):
        Clip(tmp_path / "nothing.mp4")
    film = tmp_path / "b.webp"
    pictures = [Image.new("RGB", (32, 32), colour) for colour in ("red", "green", "blue")]
    for count in (1, 3):
        pictures[0].save(film, save_all=True, append_images=pictures[1:2])
        clip = Clip(film)
        pictures[0].save(film, save_all=True, append_images=pictures[1:count])
        with pytest.raises(PhotoError, match="has changed"):
            list(clip)


class Sees:
    """A moderator that remembers what it was shown."""

    name = "sees"

    def __init__(self) -> None:
        self.seen: list[Subject] = []

    def check(self, subject: Subject) -> Verdict:
        self.seen.append(subject)
        return Verdict(decision="allow", moderator=self.name)


def test_an_edit_is_made_on_every_frame_of_a_film(tmp_path, capsys, monkeypatch):
    recipe, film, out = (tmp_path / name for name in ("edit.json", "in.webp", "out.webp"))
    drag = ("drag", "--model", "cat", "--point", "128,128:140,128", "--steps", "2", "--recipe-out", str(recipe))
    assert main([*drag, "--before", str(tmp_path / "a.png"), "--out", str(tmp_path / "b.png")]) == 0
    frames = [Image.open(tmp_path / name).convert("RGB") for name in ("a.png", "b.png")]
    frames[0].save(film, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    clip = Clip(film)
    assert len(clip) == 2
    assert clip.rate == pytest.approx(10, rel=0.1)
    words = ["video", str(film), str(out), "--model", "cat", "--edit", str(recipe)]
    assert main(words) == 1
    assert "agree" in capsys.readouterr().err
    assert main([*words, "--consent", "--model", "face"]) == 1  # whose latents have the same shape
    assert "made on 'cat'" in capsys.readouterr().err
    moderator = Sees()
    monkeypatch.setattr(default().moderation, "moderators", (moderator,))
    assert main([*words, "--consent", "--json", "--quick"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["frames"] == 2
    assert {"words", "signature", "record"} <= marks_of(out.read_bytes())
    with Image.open(out) as written:
        assert written.n_frames == 2
    # All of it is looked at, and as something that real people may be in.
    assert [(subject.stage, len(subject.pictures)) for subject in moderator.seen] == [("upload", 2), ("export", 2)]
    assert all(subject.photo for subject in moderator.seen)


def test_frames_that_somebody_waits_for_have_a_bar(monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    watched = Watched([1, 2, 3], "writing the film")
    assert len(watched) == 3
    assert next(iter(watched)) == 1
    assert not capsys.readouterr().err
    assert list(watched) == list(watched) == [1, 2, 3]
    said = capsys.readouterr().err
    assert "writing the film · 0:00 left" in said
    assert "\n" not in said
    assert said.endswith(" \r"), "it is gone when all of them have been gone through"
    list(Watched([1, 2], "", shown=False))
    assert not capsys.readouterr().err


def test_a_film_keeps_its_speed_and_its_sound(tmp_path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    source, out = tmp_path / "in.mp4", tmp_path / "out.mp4"
    made = [
        imageio_ffmpeg.get_ffmpeg_exe(),
        "-loglevel",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=size=160x128:rate=20:duration=1",
    ]
    made += ["-f", "lavfi", "-i", "sine=duration=1", "-pix_fmt", "yuv420p", "-shortest", str(source)]
    subprocess.run(made, check=True, timeout=60)
    assert has_sound(source)
    clip = Clip(source, 12)
    assert len(clip) == 12
    assert clip.rate == pytest.approx(20)
    alive = Alive()
    save_animation(out, Reel(alive, clip), seconds=1 / clip.rate, hold=False, sound=source)
    # One after the other, however many there are.
    assert alive.most <= 3
    assert has_sound(out)
    again = Clip(out)
    assert again.rate == pytest.approx(20)
    assert abs(len(again) - 12) <= 1
    save_animation(tmp_path / "mute.mp4", clip, seconds=1 / clip.rate, hold=False)
    assert not has_sound(tmp_path / "mute.mp4")
