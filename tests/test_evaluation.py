"""The evaluation: arithmetic with known answers, protocols on bumps whose places are known, files that are extended."""

from __future__ import annotations

import argparse
import contextlib
import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from benchmarks import evaluation, machine
from draggan.cli import main
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.errors import ConfigError, OpBuildError
from draggan.evaluation import command, protocols, report, results
from draggan.evaluation.command import config_from
from draggan.evaluation.instructions import Instruction, read_instructions
from draggan.evaluation.protocols import (
    ALL,
    Cycle,
    Instructions,
    Landmarks,
    Mask,
    Method,
    Pairs,
    Pulls,
    PullsApart,
    Quality,
    Reconstruction,
    Roundtrip,
)
from draggan.evaluation.results import ResultFile, Row, changed, measure
from draggan.evaluation.similarity import (
    correspondences,
    gradient_distance,
    mean_square,
    ms_ssim,
    psnr,
    sharpness,
)
from draggan.evaluation.statistics import Whitening, bootstrap, frechet, moments, paired_difference, share
from draggan.evaluation.subject import Subject
from draggan.evaluation.witnesses import distinct_point
from draggan.geometry import Grid
from draggan.scenes.scene import renderer
from tests.conftest import tiny_stylegan2
from tests.marks import marks_of
from tests.toys import BumpGenerator

START = [(16.0, 18.0), (46.0, 20.0), (30.0, 46.0)]
NAMES = ("left", "right", "bottom")
RANDOM = np.random.default_rng(0)
# A bump moves 2 px per unit of the latent.
CONFIG = DragConfig(step_size=0.05)


@pytest.fixture(scope="session")
def _compiled() -> None:
    """The scenes' renderer, from whatever cache there is, before a test gets a cache of its own."""
    with contextlib.suppress(OpBuildError):
        renderer()


# ------------------------------------------------------------------------------------------------------- Statistics


def test_the_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = RANDOM.normal(3, 2, 400)
    interval = bootstrap(values.tolist())
    half = 1.96 * values.std() / 20
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)
    assert bootstrap(values.tolist()) == interval


def test_little_is_known_from_few_values():
    assert bootstrap([]).count == 0
    assert math.isnan(bootstrap([]).mean)
    one = bootstrap([4.0])
    assert one.mean == 4
    assert math.isnan(one.low)
    assert math.isnan(one.high)
    same = bootstrap([4.0, 4.0, 4.0])
    assert (same.low, same.high) == (4, 4)


def test_shares_have_wilsons_interval():
    none, half = share([0.0] * 10), share([0.0, 1.0] * 5)
    assert (none.mean, none.low) == (0, 0)
    assert none.high == pytest.approx(0.2775, abs=1e-4)
    assert (half.low, half.high) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert share([]).count == 0


def test_a_paired_difference_sees_through_the_spread_of_the_cases():
    cases = RANDOM.normal(0, 10, 50)
    d = paired_difference(cases.tolist(), (cases - 1).tolist())
    assert (d.mean, d.low, d.high) == pytest.approx((-1, -1, -1))


def test_frechet_distances_known_in_closed_form():
    x = RANDOM.normal(size=(50, 3))
    assert frechet(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet(x, x + np.array([3, 0, 4])) == pytest.approx(25)
    # Exactly independent columns of variance a and b: (sqrt a - sqrt b)^2 each.
    cube = np.array([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], float)
    unit = float(moments(cube)[1][0, 0])
    a, b = cube * [1, 2, 3], cube * [2, 2, 5]
    assert frechet(a, b) == pytest.approx(unit * (1 + 0 + 4))
    assert frechet(b, a) == pytest.approx(frechet(a, b))
    # Fewer samples than dimensions.
    assert frechet(RANDOM.normal(size=(3, 9)), np.zeros((3, 9))) > 0


def test_whitened_distance_does_not_depend_on_the_coordinates():
    mix = RANDOM.normal(size=(5, 5))
    plain = RANDOM.normal(size=(20000, 5))
    white = Whitening.of(plain @ mix + 7, floor=0)
    probe = RANDOM.normal(size=(2, 5)) * 3
    assert white.distance(probe @ mix + 7) == pytest.approx(np.sqrt((probe**2).mean()), rel=0.03)
    assert white.distance(plain @ mix + 7) == pytest.approx(1, rel=1e-3)
    assert white.distance(white.mean) == pytest.approx(0, abs=1e-9)
    assert white.between(plain[0] @ mix, plain[1] @ mix) == pytest.approx(
        np.sqrt(((plain[0] - plain[1]) ** 2).mean()), rel=0.05
    )


def test_directions_that_hardly_vary_do_not_outweigh_all_others():
    samples = RANDOM.normal(size=(1000, 2)) * [1, 1e-6]
    white = Whitening.of(samples, floor=1e-2)
    # 0.1 of the widest spread is the unit of the narrow direction.
    assert white.distance(white.mean + np.array([0, 0.1])) == pytest.approx(np.sqrt(0.5), rel=0.1)


# ------------------------------------------------------------------------------------------------------- Similarity


def noise(size=64, seed=0, scale=0.3):
    return (torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(seed)) * scale).clamp(-1, 1)


def test_psnr_and_mean_square_of_a_known_error():
    a = torch.zeros(1, 3, 8, 8)
    assert mean_square(a, a + 0.2) == pytest.approx(0.04)
    assert psnr(a, a + 0.2) == pytest.approx(20)  # a tenth of the range
    assert psnr(a, a) == pytest.approx(100)


@pytest.mark.parametrize("size", [8, 40, 128, 200])
def test_a_picture_is_like_itself(size):
    x = noise(size)
    assert ms_ssim(x, x) == pytest.approx(1, abs=1e-4)
    assert gradient_distance(x, x) == pytest.approx(0, abs=1e-4)


def test_ms_ssim_of_even_pictures_is_the_luminance_term():
    a, b = 0.2, 0.6
    pictures = (torch.full((1, 3, 200, 200), 2 * v - 1) for v in (a, b))
    # Contrast-structure is 1 wherever there is neither; luminance counts with the weight of the coarsest scale.
    expected = ((2 * a * b + 1e-4) / (a * a + b * b + 1e-4)) ** 0.1333
    assert ms_ssim(*pictures) == pytest.approx(expected, rel=2e-3)


def test_one_scale_of_ms_ssim_agrees_with_its_definition():
    a, b = ((noise(11, seed)[:, :1] + 1) / 2 for seed in (1, 2))
    at = torch.arange(11) - 5.0
    w = torch.exp(-(at[:, None] ** 2 + at**2) / 4.5)
    w = w / w.sum()
    ma, mb = (w * a).sum(), (w * b).sum()
    va, vb, ab = (w * (a - ma) ** 2).sum(), (w * (b - mb) ** 2).sum(), (w * (a - ma) * (b - mb)).sum()
    ssim = (2 * ma * mb + 1e-4) / (ma**2 + mb**2 + 1e-4) * (2 * ab + 9e-4) / (va + vb + 9e-4)
    assert ms_ssim(2 * a - 1, 2 * b - 1) == pytest.approx(max(float(ssim), 0), abs=1e-4)


def test_more_blur_is_less_alike_and_less_sharp():
    x = noise(64)
    soft = [F.avg_pool2d(F.pad(x, [k // 2] * 4, mode="reflect"), k, stride=1) for k in (1, 3, 5)]
    for measure_of in (lambda y: ms_ssim(x, y), lambda y: -gradient_distance(x, y), sharpness):
        assert measure_of(soft[0]) > measure_of(soft[1]) > measure_of(soft[2])


def test_sharpness_of_a_ramp_and_brightness_and_the_perceptual_distance():
    ramp = torch.linspace(-0.8, 0.8, 17).expand(1, 3, 17, 17)
    assert sharpness(ramp) == pytest.approx(0.1**2 / 2)
    x = noise(64, scale=0.1)
    assert gradient_distance(x, x + 0.3) == pytest.approx(0, abs=1e-3)
    assert gradient_distance(x, x.roll(5, -1)) > 0.1


def test_features_that_move_are_found_where_they_went():
    features = torch.randn(1, 8, 24, 24, generator=torch.Generator().manual_seed(3))
    features = F.interpolate(F.avg_pool2d(features, 3, 1), (32, 32), mode="bilinear")
    grid = Grid(size=(32, 32), scale=(0.5, 0.5))
    points = torch.tensor([[20.0, 20.0], [31.0, 40.0], [44.0, 25.0]])
    moved, good = correspondences(features, features.roll((2, 3), (-2, -1)), grid, points, (64, 64))
    assert good.all()
    assert (moved - points - torch.tensor([6.0, 4.0])).norm(dim=-1).max() < 1.5


# ------------------------------------------------------------------------------------------------- A known subject


class Bumps:
    """Finder and scene of a `BumpGenerator`: the truth from the latent, the places from the picture."""

    names = landmarks = NAMES

    def __init__(self, generator):
        self.generator = generator
        self.z_dim = generator.z_dim
        self.finds = 0

    def __call__(self, images):
        self.finds += 1
        y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        places = []
        for sx, sy in START:
            # The fourth power is narrow enough for the window not to cut it off.
            weight = ((images[:, 0] + 1) / 2).clamp_min(0) ** 4 * (torch.hypot(x - sx, y - sy) < 14)
            total = weight.sum((1, 2)).clamp_min(1e-6)
            places.append(torch.stack([(weight * x).sum((1, 2)) / total, (weight * y).sum((1, 2)) / total], -1))
        return torch.stack(places, 1)

    def features(self, images):
        return F.avg_pool2d(images[:, :1], 16).flatten(1)

    def parameters(self, z):
        return np.asarray(z)

    def places(self, p):
        return self.generator.centres(self.generator.mapping(torch.as_tensor(p)))

    def render(self, p, size):
        picture = self.generator.synthesis(self.generator.mapping(torch.as_tensor(p)))
        pictures = ((picture + 1) * 127.5).round().to(torch.uint8).numpy()
        return SimpleNamespace(pictures=pictures, points=self.places(p).numpy(), visible=np.array([[True] * 3]))

    def flow(self, a, b, points, size):
        p, q = self.places(a)[0].numpy(), self.places(b)[0].numpy()
        distance = np.linalg.norm(points[0][:, None] - p, axis=-1)
        nearest = distance.argmin(1)
        return points + (q - p)[nearest], distance.min(1)[None] < 4


def bumps(*, finder=True, scene=True) -> Subject:
    generator = BumpGenerator(START)
    generator.gain = 2.0
    known = Bumps(generator.freeze())
    return Subject(name="bumps", generator=generator, finder=known if finder else None, scene=known if scene else None)


def figures(protocol, subject=None, config=CONFIG, index=0):
    case = protocol.case(subject or bumps(), config, index)
    assert case.figures, case.outcome
    return case, case.figures


@pytest.mark.parametrize("points", [1, 2, ALL])
def test_landmarks_arrive_and_are_found_where_the_tracker_says(points):
    protocol = Landmarks(points=points)
    task = protocol.task(bumps(), 0)
    assert len(task.handles) == (points or 3)
    case, f = figures(protocol)
    assert case.outcome == "arrived"
    assert f["arrived"] == 1
    assert f["asked"] == pytest.approx(np.linalg.norm(task.handles - task.targets, axis=1).mean())
    assert f["landmarks"] < 2 < f["asked"] + 2
    assert f["detector"] < 0.2
    assert f["steps"] >= 1
    assert f["seconds"] > 0
    assert case.shift.shape == (6, 6)
    assert set(case.features) == {"before", "after", "other"}
    # z is whitened already: an ordinary latent is at about 1, and moving changes that.
    assert 0.2 < f["latent_before"] < 3
    assert f["latent_moved"] > 0


def test_the_places_found_are_independent_of_the_tracker():
    _, f = figures(Landmarks(), config=DragConfig(max_steps=1, step_size=1e-6))
    assert f["landmarks"] == pytest.approx(f["asked"], abs=1e-3)
    assert f["arrived"] == 0


def test_tasks_depend_on_their_number_alone():
    subject = bumps()
    one, again, two = (Landmarks(points=2).task(subject, i) for i in (5, 5, 6))
    assert (one.handles == again.handles).all()
    assert (one.targets == again.targets).all()
    assert one.seed != two.seed
    assert not np.array_equal(one.handles, two.handles)
    other = Landmarks(points=2, first_seed=100).task(subject, 5)
    assert other.seed == one.seed + 100


def test_without_a_network_landmarks_are_the_scenes_and_nothing_is_found_again():
    _, f = figures(Landmarks(), bumps(finder=False))
    assert f["landmarks"] is None
    assert f["tracked"] <= 1
    row = Row(bumps(finder=False), Landmarks(), CONFIG)
    row.add(0)
    assert row.main.key == "tracked"
    assert "found again" not in report.text(row)


@pytest.mark.parametrize("protocol", [Pulls, PullsApart])
def test_a_claim_is_measured_by_what_the_network_finds(protocol):
    # Not by the drag: this method moves nothing and says that it has arrived.
    def claiming(generator, ws, handles, targets, mask, config):
        *_, last = Drag(generator, ws, handles, handles, mask, config)
        yield replace(last, outcome="arrived", distances=last.distances * 0)

    subject, measured = bumps(), 0
    for index in range(12):
        case = protocol().case(subject, CONFIG, index, Method(key="claiming", begin=claiming))
        f = case.figures
        if not f:
            assert "inside" in case.outcome or "visible" in case.outcome
            continue
        measured += 1
        assert (f["claimed"], f["truly"], f["claims_true"], f["truly_claimed"]) == (1, 0, 0, None)
        assert f["off"] == pytest.approx(f["landmarks"] / 64, rel=0.01)
        assert f["landmarks"] > 2
    assert measured > 3


def test_of_several_points_each_claim_is_measured():
    # Claims everything but the first point, and moves nothing.
    def claiming(generator, ws, handles, targets, mask, config):
        *_, last = Drag(generator, ws, handles, handles, mask, config)
        lost = np.arange(len(handles)) == 0
        yield replace(last, outcome="lost", distances=last.distances * 0, lost=lost)

    task = Pairs(points=2).task(bumps(), 1)
    assert isinstance(task, protocols.Task)
    f = Pairs(points=2).case(bumps(), CONFIG, 1, Method(key="claiming", begin=claiming)).figures
    away = np.linalg.norm(task.targets - task.handles, axis=1)
    true = away < 0.035 * 64
    assert f["claimed"] == 0
    assert f["points_claimed"] == (len(away) - 1) / len(away)
    assert f["points_truly"] == pytest.approx(true.mean())
    assert f["points_claims_true"] == pytest.approx(true[1:].mean())


def test_witnesses_find_content_where_it_went_and_see_through_a_claim_without_any_truth():
    # The network is there to judge the judgement; the subject without it has the same pictures.
    def claiming(generator, ws, handles, targets, mask, config):
        *_, last = Drag(generator, ws, handles, handles, mask, config)
        yield replace(last, outcome="arrived", handles=targets.copy(), distances=last.distances * 0)

    quick, subject, measured = replace(CONFIG, solver="gauss-newton", max_departure=100.0), bumps(), 0
    # Farther than these three go, a bump leaves the window in which the network looks for it.
    for index in range(3):
        true = Cycle().case(subject, quick, index)
        false = Cycle().case(subject, quick, index, Method(key="claiming", begin=claiming))
        if not true.figures or not true.figures["claimed"]:
            continue
        measured += 1
        assert (true.figures["confirmed"], true.figures["judged"], true.figures["confirmed_true"]) == (1, 1, 1)
        assert true.figures["line_off"] < 0.01
        assert true.figures["resembles_off"] < 0.03
        assert true.figures["latent_back"] < 0.3
        assert (false.figures["line"], false.figures["resembles"]) == (0, 0)
        assert (false.figures["confirmed"], false.figures["judged"], false.figures["doubted_false"]) == (0, 1, 1)
    assert measured > 1


def test_a_point_that_says_something_is_chosen_where_nothing_is_known():
    generator = BumpGenerator([(30.0, 34.0)]).freeze()
    ws = torch.zeros(1, 8, 4)
    points = [distinct_point(generator, ws, np.random.default_rng(i), DragConfig()) for i in range(8)]
    assert np.linalg.norm(np.array(points) - (30, 34), axis=1).max() < 12, "on the bump, not on the flat ground"


def test_a_quantile_has_an_interval_too():
    values = RANDOM.uniform(0, 1, 500).tolist()
    interval = bootstrap(values, quantile=0.9)
    assert interval.low < 0.9 < interval.high
    assert interval.mean == pytest.approx(np.quantile(values, 0.9))


def test_hidden_landmarks_are_not_dragged():
    subject = bumps()
    render = subject.scene.render
    subject.scene.render = lambda p, size: SimpleNamespace(
        **{**vars(render(p, size)), "visible": np.array([[False, True, False]])}
    )
    assert Landmarks(points=5).task(subject, 0).names == ("right",)
    subject.scene.render = lambda p, size: SimpleNamespace(
        **{**vars(render(p, size)), "visible": np.zeros((1, 3), bool)}
    )
    case = Landmarks().case(subject, CONFIG, 0)
    assert case.figures == {}
    assert "visible" in case.outcome


@pytest.mark.parametrize("scene", [True, False])
def test_a_reconstruction_comes_nearer(scene):
    subject = bumps(scene=scene, finder=False)
    protocol = Reconstruction(perturbation=0.9)
    task = protocol.task(subject, 1)
    assert 1 <= len(task.handles) <= 32
    _, f = figures(protocol, subject, index=1)
    if scene:
        assert f["mse"] < 0.3 * f["mse_before"]
        assert f["perceptual"] < f["perceptual_before"]
    assert f["steps"] <= 100


def test_the_published_limit_of_a_reconstruction_is_part_of_its_row():
    assert Row(bumps(), Reconstruction(), CONFIG).identity["config"]["max_steps"] == 100
    assert Reconstruction().limited(DragConfig(max_steps=7)).max_steps == 7


@pytest.mark.parametrize("known", [True, False])
def test_there_and_back_is_where_it_began(known):
    case, f = figures(Roundtrip(), bumps(finder=known, scene=known))
    assert case.outcome == "arrived, arrived"
    assert f["tracked_back"] <= 1
    assert f["mse"] < 0.02
    assert f["latent_back"] < 1
    assert (f["landmarks_back"] is not None) == known
    if known:
        assert f["landmarks_back"] < 1


def test_changes_outside_a_mask_are_measured_with_and_without():
    subject = bumps()
    task = Mask().task(subject, 0)
    assert 0 < task.mask.mean() < 0.5
    assert task.mask[tuple(task.handles[0].round().astype(int)[::-1])]
    case, f = figures(Mask(), subject)
    assert f["inside_free"] > 1
    assert 0 <= f["outside"] <= f["outside_free"] + 0.5
    assert case.shift is not None


def test_a_perfect_generator_is_perfect():
    _, f = figures(Quality())
    assert f["psnr"] > 45  # bytes
    assert f["ms_ssim"] == pytest.approx(1, abs=0.01)
    assert f["sharpness"] == pytest.approx(1, abs=0.02)
    assert f["landmarks_generated"] == pytest.approx(f["landmarks_rendered"], abs=0.05)
    row = Row(bumps(), Quality(), CONFIG)
    for i in range(4):
        row.add(i)
    assert row.frechet("before", "after") < 1e-3 < row.frechet("before", "before") + 1
    assert "generated against rendered" in report.text(row)


def test_what_cannot_be_measured_says_so(tiny_generator):
    subject = Subject(name="tiny", generator=tiny_generator, truncation=0.7)
    assert set(protocols.possible(subject)) == set(command.PROTOCOLS), "what is called possible can be asked for"
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    for name in set(command.PROTOCOLS) - {"instructions"}:
        assert command._protocol(parser.parse_args(["--protocol", name])).name == name
    assert {name for name, why in protocols.possible(subject).items() if not why} == {
        "reconstruction",
        "roundtrip",
        "cycle",
        "mask",
        "instructions",
    }
    with pytest.raises(ConfigError, match=r"landmarks.*tiny.*possible are reconstruction, roundtrip, cycle, mask"):
        Row(subject, Landmarks(), CONFIG)
    with pytest.raises(ConfigError, match="truncation 1 only"):
        Row(Subject(name="b", generator=bumps().generator, scene=bumps().scene, truncation=0.5), Quality(), CONFIG)


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("protocol", [Reconstruction(points=4), Roundtrip(), Cycle(), Mask()], ids=lambda p: p.name)
def test_any_generator_can_be_measured(protocol, square):
    generator = tiny_stylegan2(c_dim=0 if square else 3, square=square)
    label = None if square else torch.eye(3)[1][None]
    row = Row(Subject(name="tiny", generator=generator, truncation=0.7, label=label), protocol, DragConfig(max_steps=2))
    case = row.add(2)
    assert case.figures["steps"] >= 1
    assert case.features == {}
    height, width = generator.image_size
    assert report.strip(row, side=64).shape[:2] == (
        80,
        (2 + (protocol.name not in ("mask", "cycle"))) * 64 * width // height,
    )


# ------------------------------------------------------------------------------------------------- Instruction files


def test_instructions_in_both_forms(tmp_path):
    path = tmp_path / "drags.jsonl"
    path.write_text('{"seed": 3, "points": [[[1, 2], [3, 4]]], "category": "x"}\n\n{"seed": 4, "handles": [[5, 6]], '
                    '"targets": [[7, 8]], "size": 128}\n')  # fmt: skip
    first, second = read_instructions(path)
    assert first == Instruction(seed=3, handles=((1, 2),), targets=((3, 4),))
    assert second.size == (128, 128)
    handles, targets = second.at_size((64, 64))
    # Pixel centres are integers: 5 of 128 is the middle of pixel 2.25 of 64.
    assert handles.tolist() == [[2.25, 2.75]]
    assert targets.tolist() == [[3.25, 3.75]]
    path.write_text(json.dumps([{"seed": 3, "points": [[[1, 2], [3, 4]]]}]))
    assert read_instructions(path) == (first,)


def test_the_corner_of_a_larger_picture_is_that_of_a_smaller():
    i = Instruction(seed=0, handles=((511, 0),), targets=((900, 9),), size=(512, 512))
    handles, targets = i.at_size((64, 64))
    assert handles.tolist() == [[63, 0]]
    assert targets[0, 0] > 100  # far outside stays outside; the drag will say so


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no instructions"),
        ("{", "form"),
        ("[1]", "entry 1 is not an object"),
        ('{"seed": -1, "points": []}', "seed -1"),
        ('{"seed": 1}', "points cannot be read"),
        ('{"seed": 1, "points": [[[1, 2, 3], [4, 5]]]}', "points cannot be read"),
        ('{"seed": 1, "handles": [[1, 2]], "targets": []}', "1 handles and 0 targets"),
        ('{"seed": 1, "points": [[[1, 2], [3, NaN]]]}', "points cannot be read"),
        ('{"seed": 1, "points": [[[1, 2], [3, 4]]], "size": "big"}', "size 'big'"),
    ],
)
def test_a_bad_instruction_is_named(tmp_path, text, says):
    path = tmp_path / "drags.jsonl"
    path.write_text(text)
    with pytest.raises(ConfigError, match=says):
        read_instructions(path)
    with pytest.raises(ConfigError, match="cannot read"):
        read_instructions(tmp_path / "missing")


def test_instructions_are_dragged_and_one_outside_the_picture_is_left_out():
    good = Instruction(seed=0, handles=((16.0, 18.0),), targets=((18.0, 20.0),))
    bad = Instruction(seed=0, handles=((16.0, 18.0),), targets=((90.0, 20.0),))
    row = Row(bumps(), Instructions(instructions=(good, bad)), CONFIG)
    assert measure([row], 9) == "complete"
    assert row.measured == 1
    assert len(row.cases) == 2
    assert "outside the picture" in row.cases[1].outcome


# ------------------------------------------------------------------------------------------------ Rows and files


def quick(**settings) -> Row:
    return Row(bumps(), Landmarks(), DragConfig(step_size=0.05, max_steps=3, **settings), "quick")


def test_a_file_is_resumed_and_extended_and_keeps_other_rows(tmp_path):
    path = tmp_path / "results.json"
    first = quick()
    assert measure([first], 2, file=ResultFile(path)) == "complete"
    other = quick(r1=5.0)
    file = ResultFile(path)
    assert file.load(other) == 0  # other settings are another row
    measure([other], 1, file=file)

    late = ResultFile(path)  # of a process that knows nothing of the next rows
    file, again = ResultFile(path), quick()
    assert file.load(again) == 2
    finds = again.subject.finder.finds
    measure([again], 3, file=file)
    assert 0 < again.subject.finder.finds - finds <= 4  # the third case alone was measured
    late.save(other)
    content = json.loads(path.read_text())
    assert content["format"] == results.FORMAT
    assert [len(row["cases"]) for row in content["rows"]] == [3, 1]
    assert content["rows"][0]["summary"]["cases"] == 3
    assert content["rows"][0]["summary"]["landmarks"]["count"] == 3
    fresh = quick()
    measure([fresh], 3)
    for i in range(3):
        assert again.cases[i].figures["landmarks"] == pytest.approx(fresh.cases[i].figures["landmarks"], rel=1e-4)
        np.testing.assert_allclose(again.cases[i].shift, fresh.cases[i].shift, rtol=2e-3, atol=1e-6)
        np.testing.assert_array_equal(again.cases[i].features["after"], fresh.cases[i].features["after"])


def test_a_setting_that_a_file_does_not_know_was_at_its_default(tmp_path):
    path = tmp_path / "results.json"
    measure([quick()], 1, file=ResultFile(path))
    content = json.loads(path.read_text())
    del content["rows"][0]["row"]["config"]["r1"]
    path.write_text(json.dumps(content))
    assert ResultFile(path).load(quick()) == 1
    assert ResultFile(path).load(quick(r1=5.0)) == 0
    # What another solver is set to does not matter.
    assert ResultFile(path).load(quick(naturalness=0.7)) == 1
    measure([quick(solver="newton", naturalness=0.7)], 1, file=ResultFile(path))
    assert ResultFile(path).load(quick(solver="newton", naturalness=0.7)) == 1
    assert ResultFile(path).load(quick(solver="newton")) == 0
    # The solver's name before.
    path.write_text(path.read_text().replace('"gauss-newton"', '"newton"'))
    assert ResultFile(path).load(quick(solver="gauss-newton", naturalness=0.7)) == 1


def test_other_weights_are_another_row():
    row, other = quick(), quick()
    with torch.no_grad():
        other.subject.generator.start += 1
    assert row.identity != other.identity
    assert row.identity == quick().identity


@pytest.mark.parametrize("text", ["", "[]", '{"format": "x", "rows": []}', '{"format": "draggan-evaluation-1"}'])
def test_a_file_of_something_else_is_left_alone(tmp_path, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match="choose another file"):
        ResultFile(path)
    assert path.read_text() == text


def test_an_interrupt_keeps_what_was_measured(tmp_path, monkeypatch):
    row, count = quick(), 0

    def interrupted(*args):
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return protocols.Case(seed=count, figures={"landmarks": 1.0, "tracked": 1.0})

    monkeypatch.setattr(Landmarks, "case", interrupted)
    path = tmp_path / "results.json"
    assert measure([row], 9, file=ResultFile(path)) == "interrupted"
    assert ResultFile(path).load(quick()) == 2


def test_rows_go_by_turns_and_stop_in_time(monkeypatch):
    monkeypatch.setattr(Landmarks, "case", lambda *a: protocols.Case(seed=0, figures={"landmarks": 1.0}))
    order, rows = [], [quick(), quick(r1=5.0)]
    assert measure(rows, 2, progress=lambda row, done: order.append((rows.index(row), done))) == "complete"
    assert order == [(0, 1), (1, 1), (0, 2), (1, 2)]
    late = quick()
    assert measure([late], 2, seconds=-1) == "time"
    assert late.cases == {}


def test_a_table_has_intervals_and_paired_differences():
    a, b = quick(), quick(r1=5.0)
    b.name = "other"
    for i in range(6):
        a.cases[i] = protocols.Case(seed=i, figures={"landmarks": float(i), "arrived": 1.0})
        b.cases[i] = protocols.Case(seed=i, figures={"landmarks": i - 0.5, "arrived": 0.0})
    table = report.markdown([a, b])
    assert "| quick | other |" in table
    assert "2.00 [-0.50, -0.50]" not in table
    assert "-0.50 [-0.50, -0.50]" in table
    assert "100 [61, 100]" in table
    assert "error of the landmark network" not in table  # nothing was measured of it
    # A case that only one row has is left out.
    a.cases[6] = protocols.Case(seed=6, figures={"landmarks": 100.0, "arrived": 1.0})
    assert report.markdown([a, b]) == table
    del a.cases[6]
    text = report.text(a)
    assert "6 cases" in text
    assert "2.50 px [" in text


def test_the_document_has_every_table_with_its_settings_and_endings(tmp_path):
    rows = [quick(), quick(r1=5.0)]
    rows[1].name = "wide"
    measure(rows, 3)
    tables = [("bumps", "landmarks-5", rows), ("bumps", "quality", [Row(bumps(), Quality(), DragConfig())])]
    text = evaluation.document(tables, machine.describe(), tmp_path / "x.jpg")
    assert "- wide: `step_size=0.05`, `r1=5.0`, `max_steps=3`" in text
    assert "## landmarks, 1 point" in text
    assert "| bumps | wide | 3 |" in text
    assert "| max_steps 3 |" in text
    assert "quality" not in text  # nothing of it was measured
    assert "![best, median and worst cases](x.jpg)" in text
    # What a person wrote survives the next writing.
    file = tmp_path / "x.md"
    file.write_text(text.replace(evaluation.NOTES[0], evaluation.NOTES[0] + "\nWide is better."))
    again = evaluation.document(tables, machine.describe(), None, evaluation.notes_in(file))
    assert again.count("Wide is better.") == 1
    evaluation.pictures(tables, tmp_path / "x.jpg")
    with Image.open(tmp_path / "x.jpg") as picture:
        assert picture.size == (2 * 3 * 128 + 12, 3 * 144)
        assert b"AI-generated" in picture.info["comment"]


def test_best_median_and_worst_are_shown_as_they_were():
    row = quick()
    measure([row], 3)
    values = row.values("landmarks")
    chosen = row.extreme()
    assert values[chosen["best"]] <= values[chosen["median"]] <= values[chosen["worst"]]
    picture = report.strip(row, side=64)
    assert picture.shape == (3 * 80, 3 * 64, 3)
    assert report.strip(quick()) is None


# ------------------------------------------------------------------------------------------------- Command line


def test_settings_by_name():
    config = config_from("cat", ["r1=5", "space=w", "free-rows=3"], max_steps=9, mask_weight=None)
    assert (config.r1, config.space, config.free_rows, config.max_steps) == (5, "w", 3, 9)
    assert config.step_size != 2e-3  # what suits the cat
    assert config_from("cat", ["step_size=0.002"]).step_size == 2e-3
    assert changed(DragConfig(r1=5.0)) == {"r1": 5.0}


@pytest.mark.usefixtures("_compiled")
def test_the_command_measures_the_built_in_cat(tmp_path, capsys):
    file, picture = tmp_path / "cat.json", tmp_path / "cat.png"
    command = ["evaluate", "--model", "cat", "--pairs", "2", "--steps", "3", "--json", str(file)]
    assert main([*command, "--strips", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "cat, landmarks, 1 point: 2 cases" in out
    assert "handles to targets, tracked" in out
    assert marks_of(picture.read_bytes()) == {"words", "pixels", "signature", "record"}
    assert main(command) == 0
    assert "2 cases are in cat.json already" in capsys.readouterr().out
    assert main([*command[:3], "--protocol", "quality", "--pairs", "1", "--json", str(file)]) == 0
    assert "PSNR" in capsys.readouterr().out
    drags = tmp_path / "drags.jsonl"
    drags.write_text('{"seed": 7, "points": [[[60, 70], [64, 70]]]}\n')
    assert main([*command[:3], "--protocol", "instructions", "--instructions", str(drags), "--steps", "2"]) == 0
    assert "cat, instructions: 1 case\n" in capsys.readouterr().out
    assert len(json.loads(file.read_text())["rows"]) == 2


@pytest.mark.usefixtures("_compiled")
def test_ctrl_c_reports_and_keeps_what_there_is(tmp_path, monkeypatch, capsys):
    def one(self, subject, config, index, method):
        if index == 1:
            raise KeyboardInterrupt
        return protocols.Case(seed=7, figures={"outside": 3.0, "tracked": 1.0})

    monkeypatch.setattr(Mask, "case", one)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    file = tmp_path / "cat.json"
    assert main(["evaluate", "--protocol", "mask", "--json", str(file)]) == 130
    captured = capsys.readouterr()
    assert "cat, mask: 1 case\n" in captured.out
    assert "mask: 1 of 20, change outside, with mask 3.00 of 255" in captured.err
    assert len(json.loads(file.read_text())["rows"][0]["cases"]) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--points", "none"], "--points none"),
        (["--pairs", "0"], "--pairs 0"),
        (["--seed", "-1"], "--seed -1"),
        (["--minutes", "0"], "--minutes 0"),
        (["--truncation", "3"], "truncation"),
        (["--set", "speed=9"], "there is no setting 'speed'"),
        (["--set", "r1=big"], "r1 = 'big' is not allowed"),
        (["--set", "r1=-1"], "r1 = -1"),
        (["--class", "1"], "no classes"),
        (["--protocol", "instructions"], "--instructions FILE"),
        (["--instructions", "x"], "--instructions FILE"),
        (["--strips", "x.bmp"], "ends in .png"),
        (["--model", "nothing"], "nothing"),
    ],
)
def test_a_mistake_is_one_sentence(options, says, capsys):
    assert main(["evaluate", "--pairs", "1", *options]) == 1
    assert says in capsys.readouterr().err
