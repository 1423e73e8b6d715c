"""A photo becomes a latent and tuned weights that belong to it alone, and work goes on with them as without."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.numpy import save

from draggan.config import InversionConfig
from draggan.engine.local import LocalEngine
from draggan.engine.models import Model
from draggan.engine.tunings import Tunings
from draggan.errors import ConfigError, DragGANError, LatentError, PhotoError, RecipeError
from draggan.export import encode_picture, recipe_in
from draggan.generators.tuned import differences_between, to_be_tuned, tuned
from draggan.inversion import Inversion, expected, invert
from draggan.inversion.distance import laplacian_pyramid, pyramid_distance
from draggan.kept_session import pieces_of, read_session
from draggan.pixels import to_uint8
from draggan.recipe import Edit, Mask, Recipe, read_points
from draggan.session import Session
from draggan.session_file import PhotoPlace, SessionFile, read_session_file
from draggan.tuning import Tuning
from tests.conftest import tiny_stylegan2

QUICK = InversionConfig(coarse_steps=0, steps=12, tuning_steps=12)
LATENT_ONLY = InversionConfig(coarse_steps=0, steps=10, tuning_steps=0)


class One:
    """A model for an engine."""

    def __init__(self) -> None:
        self.generator = tiny_stylegan2()

    def find(self, name: str) -> Model:
        return Model(name=name, title=name)

    def load(self, name: str):
        return self.generator

    def sha256(self, name: str) -> str:
        return "ab" * 32


@pytest.fixture(scope="module")
def models() -> One:
    return One()


@pytest.fixture
def engine(models):
    engine = LocalEngine(models)
    yield engine
    engine.close()


def photo(seed: int) -> np.ndarray:
    """A smooth picture that the model has never drawn."""
    y, x = np.mgrid[:32, :32] / 31
    k = np.random.default_rng(seed).uniform(1, 4, 6)
    waves = [np.sin(k[2 * c] * 3 * x + k[2 * c + 1] * 3 * y) for c in range(3)]
    return (np.stack(waves, -1) * 100 + 128).astype(np.uint8)


def opened(engine, seed: int = 0, config: InversionConfig = QUICK) -> Recipe:
    return engine.invert("tiny", photo(seed), config).reached()


# ---- the inversion -------------------------------------------------------------------------------------------------


def test_the_model_draws_the_photo_better_and_better(models):
    inversion = Inversion(models.generator, photo(0), replace(QUICK, tuning_steps=30))
    steps = list(inversion)
    assert [step.index for step in steps] == list(range(1, 43))
    assert [step.stage for step in steps] == ["latent"] * 12 + ["weights"] * 30
    assert steps[-1].done
    assert not any(step.done for step in steps[:-1])
    assert [step.progress for step in steps] == sorted(step.progress for step in steps)
    assert steps[-1].progress == 1
    result = inversion.result
    assert result.psnr > steps[11].psnr + 1 > steps[0].psnr + 1
    assert result.verdict in ("very close", "recognisable", "foreign")
    assert torch.equal(result.picture, tuned(models.generator, result.tuning.differences).synthesis(result.ws))


def test_the_models_own_picture_is_found_by_its_latent(models):
    """From a latent nearby: a network with random weights has many valleys."""
    ws = models.generator.sample(5, 0.5)
    own = to_uint8(models.generator.synthesis(ws))
    near = ws + 0.1 * (models.generator.sample(6) - ws)
    inversion = Inversion(models.generator, own, replace(LATENT_ONLY, steps=150), start=near)
    steps = list(inversion)
    assert steps[-1].psnr > steps[0].psnr + 10
    assert inversion.result.tuning.differences == {}


def test_inversions_are_the_same_every_time(models):
    results = []
    for _ in range(2):
        inversion = Inversion(models.generator, photo(1), QUICK)
        list(inversion)
        results.append(inversion.result)
    assert torch.equal(results[0].ws, results[1].ws)
    assert results[0].tuning.digest == results[1].tuning.digest


def test_every_row_may_be_on_its_own(models):
    inversion = Inversion(models.generator, photo(1), replace(LATENT_ONLY, row_steps=10))
    list(inversion)
    assert not torch.equal(inversion.result.ws[:, 0], inversion.result.ws[:, 1])


def test_good_enough_ends_it_with_what_there_is(models):
    inversion = Inversion(models.generator, photo(0), replace(QUICK, tuning_steps=500))
    taken = []
    for step in inversion:
        taken.append(step)
        if step.index == 20:
            inversion.stop()
    assert len(taken) == 21
    assert taken[-1].done
    assert inversion.result.psnr == pytest.approx(taken[-1].psnr, abs=2)


@pytest.mark.parametrize("way", ["forward", "backward"])
def test_a_step_of_the_weights_is_given_up_between_two_layers(models, way):
    """At 1024 px it takes seconds."""
    inversion = Inversion(models.generator, photo(0), replace(QUICK, tuning_steps=500))
    before = next(step for step in inversion if step.stage == "weights")
    weights = inversion.result.tuning.digest
    layer = inversion._mine.synthesis.b32.conv0

    def asked(layer, inputs, output):
        if way == "forward":
            inversion.stop()
        else:
            output.register_hook(lambda gradient: inversion.stop())

    layer.register_forward_hook(asked)
    (last,) = inversion
    assert last.done
    assert (last.index, last.psnr) == (before.index, before.psnr)
    assert inversion.result.tuning.digest == weights
    assert not any(layer._forward_hooks for layer in models.generator.modules())


def test_it_goes_on_from_a_latent_and_weights(models):
    """As a film does from frame to frame."""
    first = Inversion(models.generator, photo(0), replace(QUICK, tuning_steps=40))
    list(first)
    result = first.result
    second = Inversion(
        models.generator,
        photo(0),
        replace(LATENT_ONLY, steps=1, rate=1e-4),
        start=result.ws,
        weights=result.tuning,
    )
    list(second)
    assert second.result.psnr == pytest.approx(result.psnr, abs=0.5)
    assert second.result.tuning.digest == result.tuning.digest


def test_how_long_it_takes_is_known_from_a_few_steps(models, monkeypatch):
    generator = models.load("tiny")
    ticks = iter(range(1000))
    # Every step takes a second.
    monkeypatch.setattr(invert, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))
    config = InversionConfig(coarse_steps=30, steps=20, tuning_steps=10)
    seconds = expected(generator, config)
    assert seconds.latent == pytest.approx(50)
    assert seconds.done == pytest.approx(50 + 10 * 1.8)
    assert expected(generator, config, guessed=True).latent == pytest.approx(30), "a third of the coarse steps"


def test_a_photo_of_another_size_ends_in_a_sentence(models, engine):
    with pytest.raises(PhotoError, match="32 x 32"):
        Inversion(models.generator, np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(PhotoError, match="32 x 32"):
        engine.invert("tiny", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(ConfigError, match="tuning_rate"):
        InversionConfig(tuning_rate=-1.0)


def test_a_pyramid_adds_up_to_its_picture():
    x = torch.randn(1, 3, 32, 32)
    bands = laplacian_pyramid(x)
    whole = bands[-1]
    for band in reversed(bands[:-1]):
        whole = torch.nn.functional.interpolate(whole, scale_factor=2.0, mode="bilinear") + band
    torch.testing.assert_close(whole, x)
    assert float(pyramid_distance(x, x)) == 0


# ---- weights -------------------------------------------------------------------------------------------------------


def test_a_tuned_copy_changes_nothing_of_the_model(models):
    model = models.generator
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mine, weights = to_be_tuned(model)
    for weight in weights.values():
        weight.data += 0.1
    differences = differences_between(model, weights)
    assert all((value == 0.1).all() or abs(value - 0.1).max() < 1e-3 for value in differences.values())
    copy = tuned(model, differences)
    ws = model.sample(0)
    assert not torch.equal(copy.synthesis(ws), model.synthesis(ws))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert mine.mapping is model.mapping is copy.mapping
    assert torch.equal(tuned(model, {}).synthesis(ws), model.synthesis(ws))
    # Also where windows are computed, from what was prepared of the weights.
    level = copy.default_level
    assert torch.equal(copy.features(ws, level), tuned(model, differences).features(ws, level))


def test_what_is_no_tuning_of_a_model_ends_in_a_sentence(models):
    name = models.generator.tunable_weights[0]
    for differences in ({"nothing": np.zeros(1, np.float16)}, {name: np.zeros((1, 2), np.float16)}):
        with pytest.raises(LatentError, match="does not fit"):
            tuned(models.generator, differences)
    for value in (np.full(3, np.nan, np.float16), np.zeros(3, np.float32)):
        with pytest.raises(RecipeError):
            Tuning(differences={name: value})


def test_tunings_that_nobody_has_used_for_longest_go_first(models):
    shape = dict(models.generator.synthesis.named_parameters())[models.generator.tunable_weights[0]].shape
    some = [Tuning(differences={models.generator.tunable_weights[0]: np.full(shape, k, np.float16)}) for k in range(3)]
    kept = Tunings(most_bytes=2 * some[0].bytes)
    digests = [kept.keep(tuning) for tuning in some[:2]]
    assert kept.generator(models.generator, digests[0]) is kept.generator(models.generator, digests[0])
    kept.keep(some[2])
    assert kept.get(digests[0]) is some[0]
    with pytest.raises(RecipeError, match="open the session"):
        kept.get(digests[1])
    kept.forget(digests[0])
    with pytest.raises(RecipeError, match="not here any more"):
        kept.generator(models.generator, digests[0])


# ---- the engine ----------------------------------------------------------------------------------------------------


def test_an_engine_gives_updates_and_a_recipe(engine):
    running = engine.invert("tiny", photo(0), QUICK)
    updates = list(running)
    last = updates[-1]
    assert last.done
    assert last.index == last.steps == 24
    assert last.pixels.shape == (32, 32, 3)
    assert last.verdict is not None
    recipe = running.reached()
    assert recipe.is_of_photo
    assert recipe.is_complete
    np.testing.assert_array_equal(engine.picture(recipe), last.pixels)
    assert engine.tuning(recipe).model_sha256 == "ab" * 32
    assert Recipe.from_json(recipe.to_json()) == recipe
    assert Recipe.from_json(recipe.to_json()).model.tuning == recipe.model.tuning
    assert recipe.digest != replace(recipe, model=replace(recipe.model, tuning="")).digest
    assert engine.under_way == 0


def test_stop_keeps_and_cancel_forgets(engine):
    long = replace(QUICK, tuning_steps=5000)
    running = engine.invert("tiny", photo(0), long)
    while running.update is None:
        running.newer(None, 1.0)
    running.stop()
    assert running.reached().is_of_photo
    running = engine.invert("tiny", photo(0), long)
    running.cancel()
    with pytest.raises(PhotoError, match="cancelled"):
        running.reached()
    until = time.monotonic() + 5
    while engine.under_way and time.monotonic() < until:
        time.sleep(0.01)
    assert engine.under_way == 0


def test_two_photos_at_once_are_not_mixed(engine):
    """Each session's pictures are those of its own weights, whatever the other does in between."""
    one, other = (engine.invert("tiny", photo(k), QUICK, visitor=str(k)) for k in range(2))
    one, other = one.reached(), other.reached()
    pictures = [engine.picture(recipe) for recipe in (one, other, one, other)]
    np.testing.assert_array_equal(pictures[0], pictures[2])
    np.testing.assert_array_equal(pictures[1], pictures[3])
    assert not np.array_equal(pictures[0], pictures[1])
    # A plain picture of the same latent is the model's own.
    plain = replace(one, model=replace(one.model, tuning=""))
    assert not np.array_equal(engine.picture(plain), pictures[0])
    # By content: each is nearer to its own photo than to the other's.
    errors = [[np.square(picture.astype(float) - photo(k)).mean() for k in range(2)] for picture in pictures[:2]]
    assert errors[0][0] < errors[0][1]
    assert errors[1][1] < errors[1][0]
    # Drags of both at once end where each ends alone.
    edit = Edit(points=read_points([[14, 14, 18, 14]], (32, 32)), settings={"max_steps": 3})
    alone = [engine.picture(engine.drag(recipe, edit).reached()) for recipe in (one, other)]
    both = [engine.drag(recipe, edit, visitor=str(k)) for k, recipe in enumerate((one, other))]
    for running, picture in zip(both, alone, strict=True):
        np.testing.assert_array_equal(engine.picture(running.reached()), picture)
    assert not np.array_equal(*alone)


def test_drag_hold_undo_and_another_drag_on_a_photo(engine):
    session = Session.of(opened(engine))
    before = engine.picture(session.recipe)
    allowed = np.zeros((32, 32), bool)
    allowed[8:24, 8:24] = True
    settings = {"max_steps": 3, "solver": "gauss-newton", "mask_hold": "exact"}
    edit = Edit(points=read_points([[14, 14, 18, 14]], (32, 32)), mask=Mask(allowed=allowed), settings=settings)
    session = session.with_points([((14.0, 14.0), (18.0, 14.0))]).set_mask(allowed).set_settings(settings)
    running = engine.drag(session.recipe, edit)
    last = running.result()
    session = session.dragged(running.reached(), last.handles)
    after = engine.picture(session.recipe)
    assert session.recipe.model.tuning
    np.testing.assert_array_equal(after[~allowed], before[~allowed])
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(engine.picture(session.undo().recipe), before)
    again = engine.drag(session.recipe, Edit(points=read_points([[16, 16, 18, 16]], (32, 32)), settings=settings))
    again.result()
    assert again.reached().model.tuning == session.recipe.model.tuning


def test_a_recipe_without_its_tuning_ends_in_a_sentence(engine, models):
    recipe = opened(engine)
    other = LocalEngine(models)
    try:
        for run in (
            other.picture,
            other.tuning,
            lambda r: other.drag(r, Edit(points=read_points([[1, 1, 2, 2]], (32, 32)))),
        ):
            with pytest.raises(RecipeError, match="tuned weights"):
                run(recipe)
        with pytest.raises(RecipeError, match="not made of a photo"):
            other.tuning(other.begin("tiny", seed=1))
    finally:
        other.close()


# ---- what leaves ---------------------------------------------------------------------------------------------------


def test_no_file_of_a_photo_has_its_latent(engine):
    recipe = opened(engine, config=LATENT_ONLY)
    assert recipe.is_of_photo
    for suffix in (".png", ".jpg", ".webp"):
        data = encode_picture(engine.picture(recipe), suffix, recipe=recipe)
        assert b"float32" not in data
        with pytest.raises(RecipeError, match="no recipe"):
            recipe_in(data, "it")
        assert b"trainedAlgorithmicMedia" in data


PLACE = PhotoPlace(crop=((50.0, 50.0), (20.0, 0.0), (0.0, 20.0)), photo_sha256="cd" * 32, photo_size=(100, 120))


def test_a_session_goes_on_in_another_process(engine, tmp_path):
    """Written, read and drawn by an engine that has never seen the photo: the same pictures to the last bit."""
    recipe = opened(engine)
    session = Session.of(recipe).with_points([((10.0, 10.0), (14.0, 10.0))])
    running = engine.drag(recipe, replace(session.edit(), settings={"max_steps": 2}))
    session = session.dragged(running.reached(), running.result().handles)
    digest = recipe.model.tuning
    path = SessionFile(session=session, tunings={digest: engine.tuning(recipe)}, places={digest: PLACE}).save(
        tmp_path / "mine.draggan"
    )
    work = read_session_file(path)
    assert work.session.recipe == session.recipe
    assert work.places == {digest: PLACE}
    assert work.session.can_undo
    other = LocalEngine(One())
    try:
        for tuning in work.tunings.values():
            other.keep_tuning(tuning)
        for mine, theirs in ((session, work.session), (session.undo(), work.session.undo())):
            np.testing.assert_array_equal(engine.picture(mine.recipe), other.picture(theirs.recipe))
    finally:
        other.close()


def test_a_session_without_a_photo_is_a_file_too(engine, tmp_path):
    session = Session.of(engine.begin("tiny", seed=3))
    work = read_session_file(SessionFile(session=session).save(tmp_path / "plain.draggan"))
    assert work.session.recipe == session.recipe
    assert work.tunings == {}


def test_what_a_browser_keeps_names_the_tuning(engine):
    session = Session.of(opened(engine))
    assert read_session(pieces_of(session).text()).recipe.model.tuning == session.recipe.model.tuning


def test_a_bad_session_file_ends_in_a_sentence(engine):
    recipe = opened(engine)
    tuning = engine.tuning(recipe)
    good = SessionFile(session=Session.of(recipe), tunings={recipe.model.tuning: tuning}).to_bytes()
    assert read_session_file(good).session.recipe == recipe
    other = Tuning(differences={name: value + np.float16(1) for name, value in tuning.differences.items()})
    text = np.frombuffer(pieces_of(Session.of(recipe)).text().encode(), np.uint8)
    digest = recipe.model.tuning

    def made(tensors, **metadata) -> bytes:
        there = {"draggan_session": "1", "tunings": json.dumps({digest: {"model": ""}}), "crops": "{}"}
        return save({"session": text, **tensors}, {**there, **metadata})

    def named(differences) -> dict:
        return {f"{digest}/{name}": np.asarray(value) for name, value in differences.items()}

    bad = {
        "empty": b"",
        "text": b"hello" * 50,
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "cut": good[:-100],
        "header": b"\xff" * 8 + good[8:],
        "another kind": save({"x": np.zeros(3, np.float32)}, {"format": "pt"}),
        "version": made({}, draggan_session="2"),
        "other weights": made(named(other.differences)),
        "no weights": save({"session": text}, {"draggan_session": "1", "tunings": "{}", "crops": "{}"}),
        "unknown tensor": made({"more": np.zeros(3, np.float16)}),
        "not float16": made(named({"x": np.zeros(3, np.float32)})),
        "not finite": made(named({"x": np.full(3, np.inf, np.float16)})),
        "no json": made({}, tunings="{"),
        "list": made({}, tunings="[]"),
        "no hash": made({}, tunings=json.dumps({"../../etc": {"model": ""}})),
    }
    for what, data in bad.items():
        with pytest.raises(DragGANError) as caught:
            read_session_file(data)
        assert len(str(caught.value)) < 500, what
    at = {digest: {"crop": [[0, 0]], "photo": "", "size": [1, 1]}}
    tensors = named(tuning.differences)
    with pytest.raises(RecipeError, match="place of a photo"):
        read_session_file(made(tensors, tunings=json.dumps({digest: {"model": "ab" * 32}}), crops=json.dumps(at)))
