"""The procedural scenes: deterministic pictures, landmarks where they should be, a training that learns and resumes."""

from __future__ import annotations

import itertools
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from draggan.errors import ConfigError
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.scenes import SCENES, Scene, find_scene
from draggan.scenes.__main__ import main
from draggan.scenes.objective import laplacian_pyramid, loss, outlines, pixel_weights, psnr, synthesise
from draggan.scenes.pool import ScenePool, scene_noise
from draggan.scenes.train import TrainConfig, Trainer, export
from tests.scene_helpers import compiled, moved, value_at, with_values  # noqa: F401 - `compiled` is a fixture

CAT = SCENES["cat"]


def test_names_are_unique_and_ranges_are_not_empty() -> None:
    for scene in SCENES.values():
        names = [p.name for p in scene.parameters_table]
        assert len(set(names)) == len(names)
        assert len(set(scene.landmarks)) == len(scene.landmarks) >= 20
        assert all(p.low < p.high for p in scene.parameters_table)


def test_noise_is_normalised_as_the_mapping_does() -> None:
    z = np.random.RandomState(0).randn(4, CAT.z_dim)
    np.testing.assert_allclose(CAT.parameters(z), CAT.parameters(z * 7.3), rtol=1e-5, atol=1e-6)


def test_parameters_fill_their_ranges() -> None:
    p = CAT.parameters(np.random.RandomState(0).randn(500, CAT.z_dim))
    for column, entry in zip(p.T, CAT.parameters_table, strict=True):
        assert column.min() >= entry.low - 1e-6
        assert column.max() <= entry.high + 1e-6
        assert np.ptp(column) > 0.95 * (entry.high - entry.low)


@pytest.mark.parametrize("scene", SCENES.values(), ids=lambda s: s.name)
def test_same_parameters_same_picture_whatever_the_batch_and_threads(scene: Scene) -> None:
    p = scene.parameters(scene_noise(scene, 1, 0, 6))
    a, b = scene.render(p, 48, threads=1), scene.render(p[3:4], 48, threads=2)
    np.testing.assert_array_equal(a.pictures[3], b.pictures[0])
    np.testing.assert_array_equal(a.importance[3], b.importance[0])
    np.testing.assert_array_equal(a.points[3], b.points[0])
    np.testing.assert_array_equal(scene_noise(scene, 1, 5), scene_noise(scene, 1, 5))
    assert not np.array_equal(scene_noise(scene, 1, 5), scene_noise(scene, 1, 6))


def test_rendering_has_the_shapes_it_says() -> None:
    r = CAT.render(CAT.middle(), 32)
    assert r.pictures.shape == (1, 3, 32, 32)
    assert r.pictures.dtype == np.uint8
    assert r.importance.shape == (1, 32, 32)
    assert 0.4 < r.importance.min() < 0.6
    assert 11 < r.importance.max() <= 12.1
    assert r.points.shape == (1, len(CAT.landmarks), 2)
    assert r.visible.shape == (1, len(CAT.landmarks))


def test_seen_from_the_front_everything_is_visible_and_mirrored() -> None:
    r = CAT.render(with_values(CAT, eye_open=0.9), 128)
    assert r.visible.all()
    where = dict(zip(CAT.landmarks, r.points[0], strict=True))
    for name in CAT.landmarks:
        if name.startswith("left_"):
            mirror = where[name.replace("left_", "right_")]
            np.testing.assert_allclose(where[name] + mirror * [1, -1], [127, 0], atol=0.6)
    assert where["left_ear_tip"][1] < where["head_top"][1] < where["left_pupil"][1] < where["nose"][1]
    assert where["nose"][1] < where["upper_lip"][1] < where["lower_lip"][1] < where["chin"][1]


def test_pupil_landmark_lies_on_a_dark_pixel() -> None:
    # Looking straight ahead in height: above and below, a highlight may lie on the pupil.
    p = np.concatenate(
        [
            with_values(CAT, eye_open=1, pupil=0.4, gaze_x=gaze, yaw=yaw, gaze_y=0.0)
            for gaze, yaw in itertools.product((-0.3, 0.0, 0.3), (-0.2, 0.2))
        ]
    )
    r = CAT.render(p, 128)
    for name in ("left_pupil", "right_pupil"):
        k = CAT.landmarks.index(name)
        assert r.visible[:, k].all()
        for picture, point in zip(r.pictures, r.points[:, k], strict=True):
            assert value_at(picture, point).max() < 60


def test_nose_landmark_lies_on_the_pink_nose() -> None:
    p = CAT.parameters(scene_noise(CAT, 2, 0, 12))
    p[:, CAT.position("yaw")] *= 0.5
    r = CAT.render(p, 128)
    for picture, point in zip(r.pictures, r.points[:, CAT.landmarks.index("nose")], strict=True):
        red, green, _ = value_at(picture, point).astype(int)
        assert red > green + 20


@pytest.mark.parametrize(
    ("parameter", "landmark", "axis", "sign"),
    [
        ("shift_x", "nose", 0, 1),
        ("shift_y", "nose", 1, -1),
        ("yaw", "nose", 0, 1),
        ("pitch", "nose", 1, 1),
        ("ear_size", "left_ear_tip", 1, -1),
        ("ear_tilt", "right_ear_tip", 0, 1),
        ("eye_gap", "right_pupil", 0, 1),
        ("eye_open", "left_eye_upper", 1, -1),
        ("gaze_x", "left_pupil", 0, 1),
        ("gaze_y", "left_pupil", 1, -1),
        ("mouth_open", "lower_lip", 1, 1),
        ("mouth_open", "chin", 1, 1),
        ("smile", "left_mouth", 1, -1),
        ("head_width", "left_cheek", 0, -1),
    ],
)
def test_a_parameter_moves_its_landmark(parameter: str, landmark: str, axis: int, sign: int) -> None:
    assert sign * moved(CAT, parameter, landmark)[axis] > 1.5


def test_what_is_hidden_is_marked() -> None:
    def visible(name: str, **values: float) -> bool:
        return bool(CAT.render(with_values(CAT, **values), 64).visible[0, CAT.landmarks.index(name)])

    assert visible("left_pupil", eye_open=0.9)
    assert not visible("left_pupil", eye_open=0.0)
    assert visible("left_cheek")
    assert not visible("left_cheek", yaw=-1.2)


def test_landmarks_scale_with_the_picture() -> None:
    small, large = CAT.render(CAT.middle(), 64).points, CAT.render(CAT.middle(), 256).points
    np.testing.assert_allclose((small + 0.5) * 4, large + 0.5, atol=0.01)


FLOWING = [scene for scene in SCENES.values() if scene.parts]
POSE = ("yaw", "pitch", "roll", "scale", "shift_x", "shift_y")


def settings_near_each_other(scene: Scene, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Parameters a, and b three tenths of the way from a to other ones."""
    a, c = (scene.parameters(scene_noise(scene, 9, block, count)) for block in (0, 1))
    return a, a + np.float32(0.3) * (c - a)


def inner_points(segments: np.ndarray, count: int) -> np.ndarray:
    """Points ``[batch, count, 2]`` between pixels, at random places that show something on all sides."""
    rng = np.random.default_rng(0)
    inside = segments > 0
    for axis, shift in itertools.product((1, 2), (-1, 1)):
        inside = inside & np.roll(segments > 0, shift, axis)
    out = []
    for one in inside:
        y, x = np.nonzero(one)
        out.append(np.stack([x, y], -1)[rng.integers(0, len(x), count)] + rng.uniform(-0.5, 0.5, (count, 2)))
    return np.array(out, np.float32)


@pytest.mark.parametrize("scene", FLOWING, ids=lambda s: s.name)
def test_segments_are_parts_and_cost_nothing_unless_asked_for(scene: Scene) -> None:
    p = scene.parameters(scene_noise(scene, 4, 0, 12))
    plain, labelled = scene.render(p, 64), scene.render(p, 64, segments=True)
    assert plain.segments is None
    assert labelled.segments is not None
    np.testing.assert_array_equal(plain.pictures, labelled.pictures)
    assert labelled.segments.shape == (12, 64, 64)
    assert scene.parts[0] == "backdrop"
    assert len(set(scene.parts)) == len(scene.parts)
    # Every part shows somewhere, and the backdrop is what counts least.
    assert set(np.unique(labelled.segments)) == set(range(len(scene.parts)))
    assert labelled.importance[labelled.segments == 0].mean() < 0.5 * labelled.importance[labelled.segments > 0].mean()


def test_segments_tell_eyes_nose_and_ears_where_the_landmarks_are() -> None:
    r = CAT.render(with_values(CAT, eye_open=1, gaze_x=0, gaze_y=0, pupil=0.4), 128, segments=True)
    segments = r.segments
    assert segments is not None

    def part(landmark: str, shift: tuple[int, int] = (0, 0)) -> str:
        return CAT.parts[value_at(segments[0], np.rint(r.points[0, CAT.landmarks.index(landmark)]) + shift)]

    assert part("left_pupil") == part("right_pupil") == "pupil"
    assert part("nose") == "nose"
    assert part("forehead") == part("left_cheek") == "head"
    assert part("left_ear_tip", (0, 8)).startswith("ear")
    assert CAT.parts[segments[0, 2, 2]] == "backdrop"
    assert CAT.parts[segments[0, 126, 64]] == "body"


@pytest.mark.parametrize("scene", FLOWING, ids=lambda s: s.name)
def test_flow_to_the_same_parameters_stays(scene: Scene) -> None:
    a, _ = settings_near_each_other(scene, 8)
    x = inner_points(scene.render(a, 128, segments=True).segments, 100)
    y, visible = scene.flow(a, a, x, 128)
    assert visible.mean() > 0.97
    error = np.abs(y - x)[visible]
    assert np.percentile(error, 99.5) < 0.01
    assert error.max() < 0.6  # on the outline


@pytest.mark.parametrize("scene", FLOWING, ids=lambda s: s.name)
def test_flow_of_a_pose_is_rigid(scene: Scene) -> None:
    """Two steps are one: the pose changes by way of another, and every point of the surface keeps its place on it."""
    a, b = settings_near_each_other(scene, 8)
    there = a.copy()
    between = a.copy()
    for name in POSE:
        if name in {p.name for p in scene.parameters_table}:
            there[:, scene.position(name)] = b[:, scene.position(name)]
            between[:, scene.position(name)] = 0.5 * (a + b)[:, scene.position(name)]
    x = inner_points(scene.render(a, 128, segments=True).segments, 100)
    at_once, seen = scene.flow(a, there, x, 128)
    half, seen_half = scene.flow(a, between, x, 128)
    in_two, seen_two = scene.flow(between, there, half, 128)
    all_seen = seen & seen_half & seen_two
    assert all_seen.mean() > 0.85
    error = np.abs(in_two - at_once)[all_seen]
    assert np.percentile(error, 99) < 0.01  # the rest lies where the surface is seen edge-on
    assert error.max() < 0.5


def test_flow_follows_what_is_known_exactly() -> None:
    a = with_values(CAT, yaw=0, pitch=0, roll=0, shift_x=0)
    b = with_values(CAT, yaw=0, pitch=0, roll=0, shift_x=0.05)
    # A shift at distance z from the viewer: 0.05 units are 3.2 px at 128, more for what is nearer.
    x = inner_points(CAT.render(a, 128, segments=True).segments, 60)
    y, visible = CAT.flow(a, b, x, 128)
    assert visible.mean() > 0.95
    moved = (y - x)[visible]
    assert np.abs(moved[:, 1]).max() < 1e-3
    assert moved[:, 0].min() > 2.9  # the shoulders
    assert moved[:, 0].max() < 3.7  # the nose
    # The iris follows the gaze, and only the iris and the pupil do.
    a, b = with_values(CAT, eye_open=1, gaze_x=-0.2), with_values(CAT, eye_open=1, gaze_x=0.2)
    names = ("left_pupil", "right_pupil", "nose", "left_ear_tip", "chin")
    where = [CAT.landmarks.index(name) for name in names]
    before, after = CAT.render(a, 128).points, CAT.render(b, 128).points
    y, visible = CAT.flow(a, b, before[:, where], 128)
    assert visible[0, :3].all()
    np.testing.assert_allclose(y[0, :3], after[0, where][:3], atol=0.05)
    assert (y - before[:, where])[0, :2, 0].min() > 3


@pytest.mark.parametrize("scene", FLOWING, ids=lambda s: s.name)
def test_flow_there_and_back_returns(scene: Scene) -> None:
    a, b = settings_near_each_other(scene, 8)
    x = inner_points(scene.render(a, 128, segments=True).segments, 200)
    there, seen = scene.flow(a, b, x, 128)
    back, seen_back = scene.flow(b, a, there, 128)
    assert seen.mean() > 0.85
    assert seen_back[seen].mean() > 0.98
    error = np.linalg.norm(back - x, axis=-1)[seen & seen_back]
    assert np.percentile(error, 99) < 0.05
    assert np.percentile(error, 99.9) < 0.3  # the rest lies where something nearer ends
    # Something did move.
    assert np.linalg.norm(there - x, axis=-1)[seen].mean() > 2


@pytest.mark.parametrize("scene", FLOWING, ids=lambda s: s.name)
def test_landmarks_flow_onto_landmarks(scene: Scene) -> None:
    a, b = settings_near_each_other(scene, 24)
    before, after = scene.render(a, 128), scene.render(b, 128)
    y, seen = scene.flow(a, b, before.points, 128)
    both = before.visible & after.visible
    assert (seen & both).sum() > 0.9 * both.sum()
    error = np.linalg.norm(y - after.points, axis=-1)[seen & both]
    # The rest: where something nearer just covers a landmark, its pixel shows, and follows, that.
    assert np.median(error) < 0.2
    assert np.percentile(error, 95) < 1.0


def test_flow_of_the_backdrop_and_of_what_leaves_the_picture() -> None:
    a, b = with_values(CAT, yaw=0), with_values(CAT, yaw=0, shift_x=3.0)
    y, visible = CAT.flow(a, b, np.array([[[2.0, 2.0], [64.0, 64.0]]]), 128)
    assert not visible.any()
    np.testing.assert_array_equal(y[0, 0], [2, 2])
    assert y[0, 1, 0] > 128
    y, visible = CAT.flow(a, a, np.empty((1, 0, 2)), 128)
    assert y.shape == (1, 0, 2)
    assert visible.shape == (1, 0)


def test_flow_scales_with_the_picture_and_does_not_depend_on_threads() -> None:
    a, b = settings_near_each_other(CAT, 4)
    x = inner_points(CAT.render(a, 128, segments=True).segments, 50)
    small, seen = CAT.flow(a, b, x, 128, threads=1)
    again, _ = CAT.flow(a, b, x, 128, threads=2)
    np.testing.assert_array_equal(small, again)
    for_all, _ = CAT.flow(a, b, x[1], 128)
    np.testing.assert_array_equal(for_all[1], small[1])
    large, seen_large = CAT.flow(a, b, (x + 0.5) * 2 - 0.5, 256)
    both = seen & seen_large
    assert both.mean() > 0.8
    np.testing.assert_allclose((small + 0.5)[both] * 2, (large + 0.5)[both], atol=0.02)


def test_a_scene_without_parts_says_so() -> None:
    bare = replace(CAT, parts=())
    with pytest.raises(ConfigError, match="no parts"):
        bare.render(bare.middle(), 32, segments=True)
    with pytest.raises(ConfigError, match="no true flow"):
        bare.flow(bare.middle(), bare.middle(), np.zeros((1, 1, 2)), 32)
    with pytest.raises(ConfigError, match=r"finite points \[1, n, 2\]"):
        CAT.flow(CAT.middle(), CAT.middle(), np.zeros((2, 1, 2)), 32)


@pytest.mark.parametrize("scene", SCENES.values(), ids=lambda s: s.name)
def test_wrong_requests_say_so(scene: Scene) -> None:
    with pytest.raises(ConfigError, match="no scene 'dog'"):
        find_scene("dog")
    with pytest.raises(ConfigError, match="does not fit"):
        scene.parameters(np.zeros((1, 5)))
    with pytest.raises(ConfigError, match=rf"takes finite parameters \[batch, {scene.z_dim}\], not \[1, 5\]"):
        scene.render(np.zeros((1, 5)), 64)
    with pytest.raises(ConfigError, match="finite"):
        scene.render(with_values(scene, yaw=np.nan), 32)
    with pytest.raises(ConfigError, match="no parameter 'wings'"):
        scene.position("wings")
    for size in (4, 4096):
        with pytest.raises(ConfigError, match=f"size {size}"):
            scene.render(scene.middle(), size)
    with pytest.raises(ConfigError, match="device 'tpu' is not available"):
        scene.render(scene.middle(), 32, device="tpu")
    with pytest.raises(ConfigError, match="power of two"):
        TrainConfig(scene=scene.name, resolution=100)


def test_pool_keeps_fresh_and_does_not_repeat_itself() -> None:
    with ScenePool(CAT, 16, capacity=64, first=64, seed=3, share=1.0, device="cpu") as pool:
        z, pictures, importance, _ = pool.draw(5, np.random.default_rng(0))
        assert z.shape == (5, CAT.z_dim)
        right = CAT.render(CAT.parameters(z), 16)
        np.testing.assert_array_equal(pictures, right.pictures)
        np.testing.assert_allclose(importance / 16, right.importance, atol=0.05)
        while pool.rendered < 160:
            pool.draw(8, np.random.default_rng(0))
        assert len(pool) == 64


def test_pyramid_adds_up_and_weights_count() -> None:
    x = torch.randn(2, 3, 32, 32)
    bands = laplacian_pyramid(x)
    back = bands[-1]
    for band in reversed(bands[:-1]):
        back = torch.nn.functional.interpolate(back, scale_factor=2, mode="bilinear") + band
    torch.testing.assert_close(back, x)
    weight = torch.zeros(2, 1, 32, 32)
    weight[..., :4, :4] = 64
    wrong = x.clone()
    wrong[..., 20:, 20:] += 1
    near = x.clone()
    near[..., :4, :4] += 1
    assert loss(x, x, weight) == 0
    assert loss(near, x, weight) > 20 * loss(wrong, x, weight)


def test_energy_prefers_a_shifted_edge_to_a_blurred_one() -> None:
    target = torch.zeros(1, 3, 32, 32)
    target[..., 16:] = 1
    weight = torch.ones(1, 1, 32, 32)
    blurred = torch.nn.functional.avg_pool2d(target, 9, stride=1, padding=4, count_include_pad=False)
    shifted = target.roll(1, -1)
    shifted[..., 0] = 0

    def energy(image: torch.Tensor) -> float:
        return float(loss(image, target, weight, 1.0) - loss(image, target, weight))

    assert energy(target) == 0
    assert energy(shifted) < 0.5 * energy(blurred)


def test_weights_flatten_and_stages_follow_the_time() -> None:
    config = TrainConfig(scene="cat", resolution=128, flatten=0.6)
    assert [config.exponent(part) for part in (0.0, 0.35, 1.0)] == [1.0, 1.0, pytest.approx(0.6)]
    assert [config.stage(part) for part in (0.0, 0.3, 0.6, 1.0)] == [32, 64, 128, 128]
    with pytest.raises(ConfigError, match="stages"):
        TrainConfig(scene="cat", resolution=128, stages=(0.0, 0.5))


def tiny(minutes: float) -> TrainConfig:
    return TrainConfig(
        scene="cat",
        resolution=32,
        minutes=minutes,
        w_dim=32,
        mapping_layers=2,
        channel_base=512,
        channel_max=16,
        batch=8,
        stages=(0.0,),
        warmup=5,
        pool=64,
        pool_first=64,
        pool_share=0.0,
    )


def test_training_learns_saves_resumes_and_exports(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        trainer = Trainer(tiny(10), tmp_path, device=torch.device("cpu"), resume=True)
        with ScenePool(CAT, 32, capacity=64, first=64, seed=0, share=0) as pool:
            losses = [trainer.step(pool, 32, 0.0)[0] for _ in range(40)]
        assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])
        trainer.progress.stage = 32
        trainer.save()

        again = Trainer(tiny(10), tmp_path, device=torch.device("cpu"), resume=True)
        assert again.progress.steps == 40
        assert again.progress.pictures == 320
        for a, b in zip(again.generator.parameters(), trainer.generator.parameters(), strict=True):
            assert torch.equal(a, b)
        assert again.optimiser.state_dict()["state"][0]["step"] == 40
        with pytest.raises(ConfigError, match="another scene or size"):
            Trainer(TrainConfig(scene="cat", resolution=64), tmp_path, device=torch.device("cpu"), resume=True)

        model = tmp_path / "model.safetensors"
        export(tmp_path / "checkpoint.pt", model)
        other = replace(tiny(10), w_dim=16)
        settings = {"device": torch.device("cpu"), "resume": False}
        started = Trainer(tiny(10), tmp_path / "started", init=model, **settings)
        for a, b in zip(started.generator.parameters(), trainer.average.parameters(), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-3)  # float16 in the file
        partly = Trainer(other, tmp_path / "partly", init=model, **settings)
        kernel = partly.generator.synthesis.b8.conv1.weight
        torch.testing.assert_close(kernel, trainer.average.synthesis.b8.conv1.weight, atol=1e-3, rtol=1e-3)
        with pytest.raises(ConfigError, match="cannot start from"):
            Trainer(other, tmp_path / "not", init=tmp_path / "nothing.safetensors", **settings)
        with pytest.raises(ConfigError, match="train first"):
            export(tmp_path / "nowhere" / "checkpoint.pt", model)
    finally:
        torch.set_num_threads(threads)
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
        state = {k.removeprefix("G_ema/"): file.get_tensor(k).float() for k in file.keys()}  # noqa: SIM118
    assert metadata["family"] == "stylegan2"
    assert metadata["licence"] == "Apache-2.0"
    assert json.loads(metadata["training"])["pictures_seen"] == 320
    generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(json.loads(metadata["kwargs"])))
    generator.load_state_dict(state)
    z = torch.randn(2, CAT.z_dim)
    generator.requires_grad_(False)
    assert generator.synthesis(generator.mapping(z)).shape == (2, 3, 32, 32)


def test_a_run_ends_when_its_time_is_over(tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        Trainer(tiny(0.01), tmp_path, device=torch.device("cpu"), resume=False).run()
    finally:
        torch.set_num_threads(threads)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt", "curve.png", "samples.png"]


def test_training_pass_draws_what_the_generator_draws() -> None:
    generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(tiny(1).kwargs(CAT))).requires_grad_(False)
    ws = generator.mapping(torch.randn(2, CAT.z_dim))
    torch.testing.assert_close(synthesise(generator, ws, 32, torch.float32), generator.synthesis(ws))
    rough = synthesise(generator, ws, 32, torch.bfloat16)
    assert (rough - generator.synthesis(ws)).abs().max() < 0.2 * generator.synthesis(ws).abs().max()


def test_psnr_of_a_known_error() -> None:
    a = torch.zeros(1, 3, 8, 8)
    assert psnr(a + 0.2, a) == pytest.approx(20.0, abs=1e-3)


def test_the_command_measures_every_scene_and_names_a_wrong_one(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert main(["cat", "car", "--size", "16", "--seconds", "0", "--device", "cpu"]) == 0
        assert main(["dog"]) == 1
    lines = [r.getMessage().split() for r in caplog.records]
    for line, name in zip(lines[2:4], ("cat", "car"), strict=True):
        assert line[:2] == [name, "16"]
        assert float(line[2]) > 0
    assert "no scene 'dog'" in caplog.records[-1].getMessage()


def test_outlines_weigh_on_both_sides() -> None:
    segments = torch.zeros(1, 128, 128, dtype=torch.uint8)
    segments[:, :, 64:] = 3
    near = outlines(segments)
    assert near[0, 5].nonzero().ravel().tolist() == [63, 64]
    # Twice as many pixels of a picture of twice the size: the same width.
    large = outlines(segments.repeat_interleave(2, 1).repeat_interleave(2, 2))
    assert large[0, 5].nonzero().ravel().tolist() == [126, 127, 128, 129]
    importance = torch.full((1, 128, 128), 32, dtype=torch.uint8)
    weight = pixel_weights(importance, near, exponent=0.5, extra=2.0)[0, 0, 5]
    assert float(weight.mean()) == pytest.approx(1)
    assert float(weight[64] / weight[0]) == pytest.approx(3)
    pool = ScenePool(CAT, 32, capacity=32, first=32, seed=0, share=0)
    drawn = pool.draw(4, np.random.default_rng(0))
    right = CAT.render(CAT.parameters(drawn.z), 32, segments=True)
    np.testing.assert_array_equal(drawn.outlines, outlines(torch.from_numpy(right.segments)).numpy())


def test_slopes_ask_for_edges_as_steep_as_they_are() -> None:
    target = torch.zeros(1, 3, 32, 32)
    target[..., 16:] = 1
    weight = torch.ones(1, 1, 32, 32)
    soft = torch.nn.functional.avg_pool2d(target, 5, stride=1, padding=2, count_include_pad=False)
    assert float(loss(target, target, weight, slopes=1.0)) == 0
    # One step of 1 becomes five of 0.2: four that should be none, and one that is 0.8 too small.
    more = float(loss(soft, target, weight, slopes=1.0) - loss(soft, target, weight))
    assert more == pytest.approx((4 * 0.2 + 0.8) / 31, rel=1e-4)


def test_weights_that_settle_have_small_steps_at_full_size() -> None:
    config = TrainConfig(scene="cat", resolution=256, settle=True)
    assert config.stage(0.0) == 256
    assert config.exponent(0.0) == config.flatten
    assert config.energy(0.0) == config.sharpen
    usual = TrainConfig(scene="cat", resolution=256)
    assert config.step_size(256, 1000, 0.0) == pytest.approx(usual.step_size(256, 1000, 0.0) / 15)
    assert config.step_size(256, 1000, 1.0) == pytest.approx(0)
