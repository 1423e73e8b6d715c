"""Recipes: an exact form as text, and one reader of points, masks and settings that takes nothing on trust."""

from __future__ import annotations

import base64
import io
import json
import pickle
import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from draggan.config import DragConfig
from draggan.errors import ConfigError, DragGANError, LatentError, MaskError, PointError, RecipeError
from draggan.images import read_mask
from draggan.recipe import (
    Edit,
    Mask,
    ModelReference,
    Point,
    Recipe,
    Seed,
    read_edit,
    read_point,
    read_points,
    read_settings,
)

HEIGHT, WIDTH = 24, 32
SIZE = (HEIGHT, WIDTH)


def latent(value: float = 0.0) -> np.ndarray:
    return np.full((1, 4, 3), value, np.float32)


def begun(**changes) -> Recipe:
    return Recipe(
        **{"model": ModelReference(name="cat"), "image_size": SIZE, "start": Seed(seed=7, truncation=0.7), **changes}
    )


xy = st.tuples(st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1))
latents = arrays.arrays(np.float32, (1, 4, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32))


@st.composite
def edits(draw, number: int) -> Edit:
    pictures = st.none() | st.integers(0, number)
    points = draw(
        st.lists(st.builds(Point, handle=xy, target=xy, origin=st.none() | xy, picture=pictures), max_size=3).map(tuple)
    )
    mask = draw(st.none() | st.builds(Mask, allowed=arrays.arrays(bool, SIZE), picture=pictures))
    chosen = draw(
        st.fixed_dictionaries(
            {},
            optional={
                "max_steps": st.integers(1, 10000),
                "step_size": st.floats(1e-6, 1),
                "solver": st.sampled_from(["adam", "newton", "gauss-newton"]),
                "level": st.none() | st.just("b32"),
            },
        )
    )
    space = draw(st.sampled_from(["w+", "w"]))
    recorded = draw(st.none() | latents)
    by_hand = recorded is not None and draw(st.booleans())
    return Edit(points=points, mask=mask, settings=chosen, space=space, recorded=recorded, by_hand=by_hand)


@st.composite
def recipes(draw) -> Recipe:
    start = draw(
        latents
        | st.builds(
            Seed,
            seed=st.integers(0, 2**32 - 1),
            truncation=st.floats(0, 1.5),
            label=st.none() | st.integers(0, 999),
        )
    )
    sha256 = draw(st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64))
    recipe = Recipe(model=ModelReference(name="a model é", sha256=sha256), image_size=SIZE, start=start)
    for number in range(draw(st.integers(0, 3))):
        recipe = recipe.then(draw(edits(number)), draw(st.none() | latents))
    return recipe


@settings(max_examples=80)
@given(recipes(), st.booleans())
def test_text_and_back_is_exact(recipe, with_results):
    again = Recipe.from_json(recipe.to_json(results=with_results))
    assert again == recipe
    assert (again.digest, hash(again)) == (recipe.digest, hash(recipe))
    assert again.to_json(results=False) == recipe.to_json(results=False)
    if with_results:
        assert again.to_json() == recipe.to_json()
    for mine, theirs in zip(recipe.edits, again.edits, strict=True):
        assert mine.points == theirs.points
        assert mine.settings == theirs.settings
        assert mine.by_hand == theirs.by_hand
        assert (mine.mask is None) == (theirs.mask is None)
        if mine.mask is not None:
            assert np.array_equal(mine.mask.allowed, theirs.mask.allowed)
        if mine.recorded is not None:
            assert mine.recorded.tobytes() == theirs.recorded.tobytes()


def test_the_form_is_the_one_that_is_documented():
    mask = np.zeros(SIZE, bool)
    mask[1, 2:5] = True
    edit = Edit(
        points=read_points([[1, 2, 3, 4.5]], SIZE), mask=Mask(allowed=mask), settings={"max_steps": 100}, space="w"
    )
    recipe = begun(model=ModelReference(name="cat", sha256="ab" * 32)).then(edit, latent(1)).then(edit)
    values = json.loads(recipe.to_json())
    assert values["recipe"] == 1
    assert values["model"] == {"name": "cat", "sha256": "ab" * 32}
    assert values["size"] == [24, 32]
    assert values["start"] == {"seed": 7, "truncation": 0.7, "class": None}
    first, second = values["edits"]
    assert first == {
        "points": [{"handle": [1, 2], "target": [3, 4.5], "origin": [1, 2], "picture": 0}],
        "mask": {"runs": [34, 3, 24 * 32 - 37], "picture": 0},
        "space": "w",
        "settings": {"max_steps": 100},
        "recorded": None,
    }
    assert (second["points"][0]["picture"], second["mask"]["picture"]) == (1, 1)
    assert values["results"][0] is None
    assert values["results"][2] is None
    assert np.frombuffer(base64.b64decode(values["results"][1]["float32"]), "<f4").tolist() == [1.0] * 12


def test_a_person_may_leave_out_what_goes_without_saying():
    text = '{"recipe": 1, "model": {"name": "cat"}, "size": [24, 32], "start": {"seed": 7}, "edits": [%s]}'
    short = Recipe.from_json(text % '{"points": [[1, 2, 3, 4]]}')
    assert short.start == Seed(seed=7, truncation=1.0)
    assert short.edits[0].points == (Point(handle=(1, 2), target=(3, 4), origin=(1, 2), picture=0),)
    assert short == Recipe.from_json(text % '{"points": [[[1, 2], [3, 4]]], "mask": null, "settings": {}}')
    assert short == Recipe.from_json(b"\xef\xbb\xbf" + short.to_json(indent=2).encode())


def test_what_is_recorded_was_pulled_by_hand_unless_the_recipe_says_otherwise():
    pulled, stopped = (begun().then(Edit(recorded=latent(1), by_hand=by_hand)) for by_hand in (True, False))
    value = json.loads(stopped.to_json())["edits"][0]
    assert value.pop("by hand") is False
    # As recipes were written before drags that were stopped had a word of their own.
    assert json.loads(pulled.to_json())["edits"] == [value]
    assert pulled.digest != stopped.digest
    for wrong in ({"by hand": 1}, {"by hand": True, "recorded": None}):
        with pytest.raises(RecipeError, match="by hand"):
            read_edit(value | wrong, 0, SIZE)


def test_results_are_no_part_of_what_a_recipe_says():
    recipe = begun().then(Edit(points=read_points([[1, 2, 3, 4]], SIZE)))
    known = recipe.with_results([latent(1), latent(2)])
    assert known == recipe
    assert known.digest == recipe.digest
    assert (recipe.latent, recipe.is_complete, known.is_complete) == (None, False, True)
    assert known.latent[0, 0, 0] == 2
    assert known.with_results([]).latent is None
    assert known.up_to(0) == begun()
    assert known.up_to(0).latent[0, 0, 0] == 1
    # What was pulled by hand, or begun with, is part of it.
    pulled = recipe.then(Edit(recorded=latent(5)))
    assert pulled.latent[0, 0, 0] == 5
    assert pulled.with_results([]).latent[0, 0, 0] == 5
    assert pulled != recipe.then(Edit(recorded=latent(6)))
    assert begun(start=latent(3)).latent[0, 0, 0] == 3
    assert begun(start=latent(3)) != begun(start=latent(4))


@pytest.mark.parametrize(
    "change",
    [
        {"model": ModelReference(name="dog")},
        {"model": ModelReference(name="cat", sha256="0" * 64)},
        {"image_size": (24, 33)},
        {"start": Seed(seed=8, truncation=0.7)},
        {"start": Seed(seed=7, truncation=0.70001)},
        {"start": Seed(seed=7, truncation=0.7, label=0)},
        {"edits": (Edit(),)},
    ],
)
def test_another_recipe_has_another_hash(change):
    assert begun(**change) != begun()
    assert begun(**change).digest != begun().digest


def test_the_hash_is_the_same_on_every_machine():
    recipe = begun().then(Edit(points=read_points([[1, 2, 3, 4]], SIZE), settings={"step_size": 1}), latent())
    assert recipe.digest == "8807d68b88347f9d202801f0c5748763c9ff0157cedf596d908bf67f952fe7cd"


def test_weights_that_are_known_by_their_hash_may_be_called_anything():
    here, there = (begun(model=ModelReference(name=name, sha256="0" * 64)) for name in ("/home/a/cat.pkl", "cat.pkl"))
    assert here == there
    assert here.portable().model.name == "cat.pkl"
    assert begun(model=ModelReference(name=r"C:\Users\a\cat.pkl")).portable().model.name == "cat.pkl"
    address = ModelReference(name="https://example.org/cat.pkl")
    assert begun(model=address).portable().model == address
    with_key = replace(address, name=f"{address.name}?token=secret#top")
    assert begun(model=with_key).portable().model == address


def test_no_latent_is_written_twice():
    recipe = begun(start=latent()).then(Edit(recorded=latent(5))).then(Edit(points=read_points([[1, 2, 3, 4]], SIZE)))
    recipe = recipe.with_results([*recipe.results[:2], latent(6)])
    assert recipe.to_json().count("float32") == 3
    again = Recipe.from_json(recipe.to_json())
    assert [result.mean() for result in again.results] == [0, 5, 6]


def test_nobody_can_write_to_what_recipes_share():
    mask, ws = np.zeros(SIZE, bool), latent()
    edit = Edit(mask=Mask(allowed=mask), recorded=ws)
    recipe = begun().then(edit)
    mask[:], ws[:] = True, 1
    assert not recipe.edits[0].mask.allowed.any()
    assert recipe.latent.max() == 0
    for array in (recipe.edits[0].mask.allowed, recipe.latent):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1
    # One array for all who share it.
    assert recipe.then(Edit()).edits[0].mask.allowed is recipe.edits[0].mask.allowed
    assert pickle.loads(pickle.dumps(recipe)) == recipe


# ---- refused, in a sentence ----------------------------------------------------------------------------------------

GOOD = {"recipe": 1, "model": {"name": "cat"}, "size": [24, 32], "start": {"seed": 7}}
LATENT = {"shape": [1, 1, 1], "float32": "AAAAAA=="}


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"recipe": 2}, RecipeError, "version 2 cannot be read; this program knows version 1"),
        ({"recipe": "1"}, RecipeError, "version '1'"),
        ({"recipe": True}, RecipeError, "version True"),
        ({"surprise": 1}, RecipeError, "a recipe has no 'surprise'"),
        ({"model": "cat"}, RecipeError, "not as text"),
        ({"model": {}}, RecipeError, "the model needs 'name'"),
        ({"model": {"name": ""}}, RecipeError, "not the name of a model"),
        ({"model": {"name": "a\nb"}}, RecipeError, "not the name of a model"),
        ({"model": {"name": "\ud800"}}, RecipeError, "not the name of a model"),
        ({"model": {"name": 5}}, RecipeError, "not the name of a model"),
        ({"model": {"name": "x" * 5000}}, RecipeError, "not the name of a model"),
        ({"model": {"name": "cat", "sha256": "12"}}, RecipeError, "not a SHA-256"),
        ({"model": {"name": "cat", "sha256": 0}}, RecipeError, "not a SHA-256"),
        ({"size": [24]}, RecipeError, "give .height, width."),
        ({"size": [0, 32]}, RecipeError, "1 to 8192"),
        ({"size": [10**400, 32]}, RecipeError, "1 to 8192"),
        ({"size": [24.5, 32]}, RecipeError, "1 to 8192"),
        ({"size": "24x32"}, RecipeError, "give .height, width."),
        ({"start": {}}, RecipeError, "either a seed"),
        ({"start": {"seed": 1, "latent": LATENT}}, RecipeError, "either a seed"),
        ({"start": {"seed": -1}}, LatentError, "seed -1 is not allowed"),
        ({"start": {"seed": 2**32}}, LatentError, "is not allowed"),
        ({"start": {"seed": 1.0}}, LatentError, "seed 1.0"),
        ({"start": {"seed": True}}, LatentError, "seed True"),
        ({"start": {"seed": 1, "truncation": 2}}, ConfigError, "truncation 2 is not allowed; give a number from 0"),
        ({"start": {"seed": 1, "truncation": 10**400}}, ConfigError, "truncation 1000"),
        ({"start": {"seed": 1, "class": -1}}, ConfigError, "class -1"),
        ({"start": {"latent": {"shape": [1, 1, 2], "float32": "AAAAAA=="}}}, LatentError, "has 8 bytes; 4 were"),
        ({"start": {"latent": {"shape": [1, 1, 1], "float32": "AADAfw=="}}}, LatentError, "not finite"),
        ({"start": {"latent": {"shape": [1, 1, 1], "float32": "é"}}}, LatentError, "not base64"),
        ({"start": {"latent": {"shape": [1, 10**9, 10**9], "float32": ""}}}, LatentError, "looks like"),
        ({"start": {"latent": {"shape": [2, 1, 1], "float32": "AAAAAAAAAAA="}}}, LatentError, "is not one picture"),
        ({"start": {"latent": [1.0]}}, LatentError, "not as a list"),
        ({"edits": {}}, RecipeError, "the edits are given as a list"),
        ({"edits": [{}] * 501}, RecipeError, "at most 500"),
        ({"edits": [3]}, RecipeError, "edit 1: an edit is given as an object"),
        ({"edits": [{"point": []}]}, RecipeError, "edit 1: an edit has no 'point'"),
        ({"edits": [{"points": {}}]}, PointError, "an object cannot be read as points"),
        ({"edits": [{"points": [[1, 2, 3]]}]}, PointError, "is not 4 numbers"),
        ({"edits": [{"points": [[1, 2, 3, "4"]]}]}, PointError, "target 1, .*is not 2 numbers"),
        ({"edits": [{"points": [[1, 2, 3, True]]}]}, PointError, "is not 2 numbers"),
        ({"edits": [{"points": [[1, 2, 3, 10**400]]}]}, PointError, "is not 2 numbers"),
        ({"edits": [{"points": [[1, 2, 32, 4]]}]}, PointError, "target 1 at .* x goes from 0 to 31, y from 0 to 23"),
        ({"edits": [{"points": [[-0.1, 2, 3, 4]]}]}, PointError, "outside the picture"),
        ({"edits": [{"points": [{"handle": [1, 2]}]}]}, PointError, "is not a point"),
        ({"edits": [{"points": [{"handle": [1, 2], "target": [1, 2], "x": 1}]}]}, PointError, "is not a point"),
        (
            {"edits": [{"points": [{"handle": [1, 2], "target": [1, 2], "picture": 1}]}]},
            RecipeError,
            "belongs to picture 1, which does not come before it; give a number from 0 to 0",
        ),
        ({"edits": [{"points": [[1, 1, 1, 1]] * 501}]}, PointError, "501 points are too many"),
        ({"edits": [{"mask": {"runs": [1]}}]}, MaskError, "cover 1 pixels; the picture has 768, 32 x 24"),
        ({"edits": [{"mask": {"runs": [-1, 769]}}]}, MaskError, "whole numbers"),
        ({"edits": [{"mask": {"runs": [10**400]}}]}, MaskError, "whole numbers"),
        ({"edits": [{"mask": {"runs": [0] * 1000}}]}, MaskError, "at most one more than"),
        ({"edits": [{"mask": {"runs": [768], "picture": -1}}]}, RecipeError, "belongs to picture -1"),
        ({"edits": [{"mask": "paint"}]}, MaskError, "not as text"),
        ({"edits": [{"space": "z"}]}, ConfigError, "choose 'w.' or 'w'"),
        ({"edits": [{"space": ["w"]}]}, ConfigError, "choose 'w.' or 'w'"),
        ({"edits": [{"settings": []}]}, ConfigError, "given by name"),
        ({"edits": [{"settings": {"speed": 9}}]}, ConfigError, "no setting 'speed'; there are"),
        ({"edits": [{"settings": {"max_steps": 0}}]}, ConfigError, "max_steps = 0 is not allowed"),
        ({"edits": [{"settings": {"max_steps": 10**400}}]}, ConfigError, "max_steps = 1000"),
        ({"edits": [{"settings": {"max_steps": 1.5}}]}, ConfigError, "whole number"),
        ({"edits": [{"settings": {"max_steps": True}}]}, ConfigError, "give a whole number"),
        ({"edits": [{"settings": {"r1": [3]}}]}, ConfigError, "r1 = .3. is not allowed; give a number"),
        ({"edits": [{"settings": {"solver": "x" * 10**6}}]}, ConfigError, "give a name"),
        ({"edits": [{"settings": {"solver": {}}}]}, ConfigError, "give a name"),
        ({"edits": [{"settings": {"level": 5}}]}, ConfigError, "give a name"),
        ({"results": [None, None]}, RecipeError, "2 results were given for 0 edits"),
        ({"results": [LATENT], "start": {"latent": LATENT}, "edits": 1}, RecipeError, "not as a number"),
    ],
)
def test_what_cannot_be_is_refused_with_what_is_allowed(change, error, says):
    with pytest.raises(error, match=says) as caught:
        Recipe.from_json(json.dumps(GOOD | change))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "",
        "recipe",
        "[]",
        "null",
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"recipe": NaN}',
        '{"recipe": Infinity}',
        '{"recipe": 1, "recipe": 1}',
        "9" * 10_000,
        b"\xff\xfe\x00",
        " " * ((32 << 20) + 1),
        json.dumps(GOOD).replace("7", "1e999"),
        json.dumps(GOOD | {"results": [{"shape": [1, 1, 1], "float32": "A" * 9}]}),
    ],
)
def test_hostile_text_is_one_sentence(text):
    with pytest.raises(DragGANError) as caught:
        Recipe.from_json(text)
    assert len(str(caught.value)) < 500


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, -(10**400)]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=300)
@given(st.data())
def test_any_value_anywhere_raises_nothing_but_our_own_errors(data):
    values = json.loads(
        begun()
        .then(Edit(points=read_points([[1, 2, 3, 4]], SIZE), mask=Mask(allowed=np.eye(*SIZE, dtype=bool))), latent(1))
        .then(Edit(recorded=latent(2), settings={"r1": 3, "level": None}))
        .to_json()
    )
    place = values
    while isinstance(place, (dict, list)) and place:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(list(keys)))
        if not isinstance(place[key], (dict, list)) or not place[key] or data.draw(st.booleans()):
            place[key] = data.draw(anything)
            break
        place = place[key]
    try:
        read = Recipe.from_json(json.dumps(values))
    except DragGANError:
        return
    assert Recipe.from_json(read.to_json()) == read


@settings(max_examples=200)
@given(st.text(max_size=40) | st.binary(max_size=40))
def test_any_text_raises_nothing_but_our_own_errors(text):
    with pytest.raises(DragGANError):
        Recipe.from_json(text)


# ---- points, masks and settings from outside -----------------------------------------------------------------------


@pytest.mark.parametrize("corner", [(0, 0), (WIDTH - 1, 0), (0, HEIGHT - 1), (WIDTH - 1, HEIGHT - 1), (0.5, 22.9)])
def test_corners_are_points(corner):
    assert read_point("handle", list(corner), SIZE) == corner
    assert read_points([[*corner, 1, 1]], SIZE)[0].handle == corner


@pytest.mark.parametrize(
    "value", [None, "1,2", [1], [1, 2, 3], [1, float("nan")], [float("inf"), 1], {"x": 1}, [[1], 2]]
)
def test_what_is_not_a_point_is_refused(value):
    with pytest.raises(PointError, match="is not 2 numbers"):
        read_point("the pointer", value, SIZE)


def test_a_continued_drag_looks_for_what_was_there():
    dragged = begun().then(Edit(points=(Point(handle=(1, 2), target=(3, 4)),)), latent(1))
    after = dragged.then(Edit(points=(Point(handle=(2, 3), target=(3, 4), origin=(1, 2), picture=0),)))
    (point,) = after.edits[1].points
    assert (point.origin, point.picture) == ((1, 2), 0)
    with pytest.raises(RecipeError, match="picture 2"):
        dragged.then(Edit(points=(replace(point, picture=2),)))


def test_a_mask_comes_from_a_file_or_a_canvas(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[3:9, 4:20] = True
    white = Image.fromarray(mask.astype(np.uint8) * 255)
    white.save(tmp_path / "white.png")
    assert np.array_equal(read_mask(tmp_path / "white.png", SIZE), mask)
    buffer = io.BytesIO()
    Image.fromarray(np.stack([mask.astype(np.uint8) * 255] * 4, -1)).save(buffer, "PNG")
    url = "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
    assert np.array_equal(read_mask(url, SIZE), mask)
    with pytest.raises(MaskError, match="it must be 24 x 32"):
        read_mask(url, (WIDTH, HEIGHT))
    for bad in (
        "data:image/png;base64,",
        "data:image/png;base64,####",
        "data:image/png;base64," + "A" * 20_000,
        "data:text/html,x",
        url[:-30],
    ):
        with pytest.raises(MaskError):
            read_mask(bad, SIZE)


def test_a_mask_of_zeros_and_ones_is_black_and_white(tmp_path):
    """Also where a program sends it without transparency, as the page's canvas never does."""
    mask = np.zeros(SIZE, np.uint8)
    mask[3:9, 4:20] = 1
    Image.fromarray(mask).save(tmp_path / "ones.png")
    assert np.array_equal(read_mask(tmp_path / "ones.png", SIZE), mask.astype(bool))
    url = "data:image/png;base64," + base64.b64encode((tmp_path / "ones.png").read_bytes()).decode()
    assert np.array_equal(read_mask(url, SIZE), mask.astype(bool))


def test_settings_are_numbers_of_their_kind_and_what_is_chosen_goes_before_what_suits():
    assert read_settings({"max_steps": 5.0, "r1": 3}) == {"max_steps": 5, "r1": 3.0}
    edit = Edit(settings={"max_steps": 5}, space="w")
    assert edit.config({"max_steps": 9, "step_size": 0.01}) == DragConfig(max_steps=5, step_size=0.01, space="w")


@pytest.mark.parametrize("filling", ["{},", "[],", "0,", '"",'])
def test_millions_of_values_are_refused_before_they_are_read(filling):
    text = '{"recipe":[' + filling * (2_500_000) + "0]}"
    started = time.perf_counter()
    with pytest.raises(RecipeError, match="a text of more than 2097152 values is too much for a recipe"):
        Recipe.from_json(text)
    assert time.perf_counter() - started < 5, "counting them takes some hundredths of a second"


def test_what_the_edits_together_may_have_changed():
    left, right = np.zeros(SIZE, bool), np.zeros(SIZE, bool)
    left[:, :4], right[:, -3:] = True, True
    masked = begun(edits=[Edit(points=(), mask=Mask(allowed=allowed)) for allowed in (left, right)])
    np.testing.assert_array_equal(masked.allowed, left | right)
    assert begun().allowed is None
    assert begun(edits=[Edit(points=(), mask=Mask(allowed=left)), Edit(points=())]).allowed is None
