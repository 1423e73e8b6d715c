"""The one way out: whatever leaves carries every mark that its format has, and nothing leaves past it."""

from __future__ import annotations

import ast
import hashlib
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.syntax import read_modules
from draggan.cli import _COMMANDS
from draggan.errors import ExportError, ModerationError
from draggan.export import ANIMATIONS, PICTURES, Provenance, encode_animation, encode_picture, read_recipe, save_picture
from draggan.images import with_caption
from draggan.provenance.deployment import Deployment
from draggan.recipe import Edit, ModelReference, Point, Recipe, Seed
from tests.marks import marks_of
from tests.test_watermark import drawing

ROOT = Path(__file__).parent.parent
MODULES = read_modules(ROOT, ("draggan", "app"))
WHOLE = {"words", "pixels", "signature", "record"}
RECIPE = Recipe(
    model=ModelReference(name="cat", sha256="ab" * 32),
    image_size=(128, 128),
    start=Seed(seed=7, truncation=0.7),
    edits=(Edit(points=(Point(handle=(60.0, 60.0), target=(64.0, 60.0)),)),),
)


@pytest.mark.parametrize("suffix", PICTURES)
def test_a_picture_carries_every_mark(suffix):
    data = encode_picture(drawing(128), suffix, {"seed": 7}, recipe=RECIPE)
    assert marks_of(data) == WHOLE


@pytest.mark.parametrize("suffix", ANIMATIONS)
def test_an_animation_carries_every_mark(suffix):
    film = [drawing(128, seed) for seed in range(3)]
    assert marks_of(encode_animation(film, suffix, recipe=RECIPE)) == WHOLE


def test_a_gif_keeps_the_colours_of_small_parts():
    y, x = np.indices((256, 256))
    backdrop = np.stack([x // 4 + 90, x // 8 + y // 4 + 120, y // 3 + 110], -1).astype(np.uint8)
    backdrop[100:110, 60:70] = (30, 220, 40)
    with Image.open(io.BytesIO(encode_animation([backdrop, backdrop[::-1]], ".gif"))) as film:
        eye = np.asarray(film.convert("RGB"))[102:108, 62:68].mean((0, 1))
    assert np.abs(eye - (30, 220, 40)).max() < 20


@pytest.mark.parametrize("suffix", [*PICTURES, *ANIMATIONS])
def test_the_recipe_comes_back_from_every_format(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    encode = encode_animation if suffix in ANIMATIONS else encode_picture
    pixels = drawing(123)  # where a GIF says so, other files have the brace with which their header begins
    path.write_bytes(encode([pixels] * 2 if suffix in ANIMATIONS else pixels, suffix, recipe=RECIPE))
    assert read_recipe(path) == RECIPE


def test_every_export_has_a_number_of_its_own():
    first, second = (np.asarray(Image.open(io.BytesIO(encode_picture(drawing(128))))) for _ in range(2))
    assert not np.array_equal(first, second)


# Who asks for files, and for each of the ways out there the test that looks at the marks of what comes out.
WAYS_OUT = {
    "draggan/cli/drag.py": {
        "draggan drag --out, --before, --points-out": (
            "tests/test_cli.py::test_a_drag_writes_marked_pictures_and_says_what_happened"
        ),
        "draggan drag --animation": "tests/test_cli.py::test_a_drag_is_written_as_an_animation",
    },
    "draggan/cli/invert.py": {
        "draggan invert --picture": "tests/test_cli_photos.py::test_a_photo_is_opened_dragged_and_put_back"
    },
    "draggan/cli/video.py": {"draggan video": "tests/test_films.py::test_an_edit_is_made_on_every_frame_of_a_film"},
    "draggan/batch/worker.py": {
        "draggan batch": "tests/test_batch.py::test_lines_become_pictures_and_a_bad_line_costs_one_line"
    },
    "draggan/datasets/scene_pairs.py": {
        "draggan dataset scenes": "tests/test_datasets.py::test_the_layout_is_that_of_an_imagefolder"
    },
    "draggan/evaluation/command.py": {
        "draggan evaluate --strips": "tests/test_evaluation.py::test_the_command_measures_the_built_in_cat"
    },
    "draggan/cli/audit_model.py": {
        "draggan audit-model --sheet": "tests/test_bias.py::test_the_command_writes_tables_and_a_marked_sheet"
    },
    "draggan/service/app.py": {
        "/v1/picture": "tests/test_service.py::test_a_recipe_becomes_a_picture_with_its_recipe",
        "/v1/drag": "tests/test_service.py::test_a_drag_comes_step_by_step",
        "the tools make and drag at /mcp": "tests/test_tools.py::test_a_language_model_makes_a_cat_and_turns_its_head",
    },
    "draggan/service/live.py": {"/v1/live": "tests/test_service.py::test_targets_come_in_and_pictures_go_out"},
    "draggan/ui/handlers/saving.py": {
        "Save PNG": "tests/page/test_saving.py::test_saving_gives_the_clean_picture_marked",
        "Save JPEG, Save WebP": "tests/page/test_saving.py::test_a_picture_is_saved_in_other_formats_marked",
        "Copy": "tests/page/test_saving.py::test_a_copy_is_a_marked_png",
        "Save PNG, of a photo": (
            "tests/page/test_photos.py::test_a_photo_is_opened_dragged_and_saved_back_into_the_whole_of_it"
        ),
        "Before and after": "tests/page/test_saving.py::test_before_and_after_stand_side_by_side_marked",
        "Save MP4, Save GIF, Save WebP": "tests/page/test_saving.py::test_a_drag_is_saved_as_a_film_marked",
        "Save PNG, over the network": "tests/page/test_served.py::test_the_page_over_the_network",
    },
    "draggan/ui/api.py": {
        "/picture": "tests/page/test_served.py::test_pictures_and_models_for_programs",
        "/drag": "tests/page/test_served.py::test_a_drag_for_programs",
    },
}
# Who hands on files that have left already, as they are.
COPIES = {"draggan/datasets/batch_pairs.py": {"draggan dataset drags": "tests/test_datasets.py::test_drags_of_a_batch"}}
HOUSEKEEPING = {"draggan/ui/server/uploads.py"}  # which keeps what was sent in
NO_WAY_OUT = {"app", "edits", "verify", "models", "convert", "audit", "review", "doctor"}
# Who else writes pictures, none of which is handed to anybody.
OTHERS = {
    "draggan/export.py": "the way out itself",
    "draggan/ui/canvas/component.py": "previews on the page",
    "draggan/ui/canvas/value.py": "masks on the page",
    "draggan/moderation/review.py": "what a person is to look at, before it may leave",
    "draggan/service/answers.py": "previews of drags under way",
    "draggan/scenes/train.py": "samples beside a training, for whoever trains",
}
SAVERS = {"save_picture", "save_animation", "encode_picture", "encode_animation"}


def calls_of(tree: ast.AST) -> set[str]:
    functions = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return {f.id for f in functions if isinstance(f, ast.Name)} | {
        f.attr for f in functions if isinstance(f, ast.Attribute)
    }


def test_every_way_out_is_known_and_has_its_test():
    asking = {m.path for m in MODULES.values() if SAVERS & calls_of(m.tree) and m.path != "draggan/export.py"}
    assert asking == set(WAYS_OUT)
    for doors in [*WAYS_OUT.values(), *COPIES.values()]:
        for door, test in doors.items():
            path, _, name = test.partition("::")
            functions = [n for n in ast.walk(ast.parse((ROOT / path).read_text())) if isinstance(n, ast.FunctionDef)]
            (looking,) = (function for function in functions if function.name == name)
            assert "marks_of" in calls_of(looking), f"{test} does not look at the marks of what leaves by {door}"


def test_nothing_else_copies_files_for_others():
    copying = {m.path for m in MODULES.values() if {"copyfile", "copy2", "copytree"} & calls_of(m.tree)}
    assert copying - HOUSEKEEPING == set(COPIES)


def test_the_doors_of_programs_are_known():
    """Routes, tools and commands: a new one is either no way out or has its line above."""
    named = " ".join(door for doors in [*WAYS_OUT.values(), *COPIES.values()] for door in doors)
    service = (ROOT / "draggan/service/app.py").read_text()
    routes = set(re.findall(r'service\.(?:post|websocket)\(\s*"([^"]+)"', service))
    assert routes
    assert all(route in named for route in routes)
    endpoints = set(re.findall(r'\(\w+, "(\w+)"\)', (ROOT / "draggan/ui/api.py").read_text()))
    assert endpoints - {"models", "consent"} == {"picture", "drag"}
    tools = set(re.findall(r'\(tools\.(\w+), "[A-Z][^"]+"\)', (ROOT / "draggan/service/tools.py").read_text()))
    assert tools - {"list_models", "verify"} == {"make", "drag"}
    commands = {command.NAME for command in _COMMANDS}
    assert commands == {name for name in commands if f"draggan {name}" in named} | NO_WAY_OUT


def test_nothing_else_writes_pictures():
    """No module that knows Pillow, or another library for pictures, writes files but the one way out."""
    libraries = ("PIL", "cv2", "imageio", "torchvision", "matplotlib", "av", "skimage")
    writers = set()
    for module in MODULES.values():
        knows = any(found.name.split(".")[0] in libraries for found in module.imports())
        if knows and calls_of(module.tree) & {"save", "imwrite", "imsave", "save_image", "savefig", "mimsave"}:
            writers.add(module.path)
    drawing_for_others = {"draggan/scenes/train.py"}  # its sheets come from a module beside it
    assert writers | drawing_for_others == set(OTHERS)


def test_a_caption_is_seen_and_off_unless_wanted(monkeypatch):
    pixels = np.full((128, 128, 3), 200, np.uint8)

    def corner() -> float:
        return float(np.asarray(Image.open(io.BytesIO(encode_picture(pixels))))[-12:, -40:].mean())

    assert corner() > 190
    monkeypatch.setenv("DRAGGAN_CAPTION", "on")
    assert corner() < 170
    captioned = with_caption(drawing(64, channels=4), "AI-generated")
    assert captioned.shape == (64, 64, 4)
    assert with_caption(drawing(16), "AI-generated").shape == (16, 16, 3)


def test_what_may_not_leave_leaves_nothing(tmp_path):
    environment = {"DRAGGAN_UNMODERATED_EXPORTS": "off", "DRAGGAN_MODERATORS": "none"}
    strict = Deployment.of(folder=tmp_path / "state", environment=environment)
    with pytest.raises(ModerationError):
        save_picture(tmp_path / "a.png", drawing(64), provenance=Provenance(deployment=strict))
    assert not (tmp_path / "a.png").exists()


def test_the_record_knows_the_file_as_it_left(tmp_path):
    own = Deployment.of(folder=tmp_path / "state", environment={"DRAGGAN_MODERATORS": "none"})
    data = encode_picture(drawing(128), ".jpg", recipe=RECIPE, provenance=Provenance(deployment=own, door="batch"))
    assert marks_of(data, own) == WHOLE
    assert own.audit is not None
    (row,) = own.audit.rows(last=1)
    assert row.facts["sha256"] == hashlib.sha256(data).hexdigest()
    assert (row.facts["kind"], row.facts["door"], row.facts["recipe"]) == ("jpeg", "batch", RECIPE.digest)


def test_a_picture_too_small_for_a_mark_still_says_what_it_is():
    data = encode_picture(drawing(20))
    assert marks_of(data) == {"words", "signature", "record"}
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), drawing(20))


def test_details_are_where_their_format_has_them():
    details = {"seed": 7, "note": "a < b & c"}
    with Image.open(io.BytesIO(encode_picture(drawing(20), ".png", details))) as picture:
        assert json.loads(picture.text["DragGAN"]) == details
    for suffix in (".jpg", ".webp"):
        with Image.open(io.BytesIO(encode_picture(drawing(20), suffix, details))) as picture:
            assert b"a &lt; b &amp; c" in picture.info["xmp"]
    with pytest.raises(ExportError, match=r"choose a name that ends in \.png"):
        encode_picture(drawing(20), ".bmp")


def test_how_a_picture_was_made_is_said_as_its_recipe_says_it():
    """With nothing that stands in no recipe: no folder, and no settings that merely would have been chosen."""
    at_home = replace(RECIPE, model=replace(RECIPE.model, name="/home/me/cat.pkl"))
    settings = {"solver": "gauss-newton", "space": "w"}
    asked = replace(RECIPE.edits[0], space="w", settings={"solver": "gauss-newton"})
    for recipe, used in ((at_home, {"space": "w+"}), (replace(at_home, edits=(asked,)), settings)):
        with Image.open(io.BytesIO(encode_picture(drawing(20), ".png", {"steps": 3}, recipe=recipe))) as picture:
            said = json.loads(picture.text["DragGAN"])
        assert (said["model"], said["seed"], said["truncation"]) == ("cat.pkl", 7, 0.7)
        assert (said["handles"], said["targets"], said["mask"], said["steps"]) == ([[60, 60]], [[64, 60]], False, 3)
        assert said["settings"] == used
