"""The command line, on a tiny network in a file."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from draggan.checkpoints import safetensors
from draggan.checkpoints.description import CheckpointDescription, NetworkDescription
from draggan.cli import main
from draggan.generators.stylegan2 import StyleGAN2Generator


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    kwargs = {"z_dim": 8, "c_dim": 0, "w_dim": 8, "img_resolution": 32, "channel_base": 256, "channel_max": 16}
    tensors = {name: t.numpy() for name, t in StyleGAN2Generator(**kwargs).state_dict().items()}
    network = NetworkDescription(family="stylegan2", kwargs=kwargs, tensors=tensors)
    path = tmp_path_factory.mktemp("models") / "tiny.safetensors"
    safetensors.write(path, CheckpointDescription(networks={"G_ema": network}, format="safetensors"))
    return str(path)


def drag(model, *options):
    return main(["drag", "--model", model, "--seed", "7", "--point", "10,12:14,12", "--steps", "4", *options])


def test_a_drag_writes_marked_pictures_and_says_what_happened(model, tmp_path, capsys):
    files = [str(tmp_path / name) for name in ("out.png", "before.png", "points.png")]
    assert drag(model, "--out", files[0], "--before", files[1], "--points-out", files[2]) == 0
    text = capsys.readouterr().out
    assert "point 1" in text
    assert all(f"wrote {name}" in text for name in files)
    out, before, points = (Image.open(name) for name in files)
    assert out.size == before.size == (32, 32)
    assert points.size == (512, 512)
    assert json.loads(out.info["DragGAN"])["seed"] == 7


def test_json_is_one_object_with_everything(model, capsys):
    assert drag(model, "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["handles"] == [[10, 12]]
    assert result["targets"] == [[14, 12]]
    assert result["outcome"] in ("arrived", "max_steps", "stalled")
    assert len(result["distances"]) == 1


def test_the_same_command_gives_the_same_pixels(model, tmp_path):
    for name in ("a.png", "b.png"):
        assert drag(model, "--out", str(tmp_path / name)) == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_a_mask_file_is_used(model, tmp_path, capsys):
    mask = np.zeros((32, 32), np.uint8)
    mask[:, :20] = 255
    Image.fromarray(mask).save(tmp_path / "m.png")
    free, held = (str(tmp_path / f"{name}.png") for name in ("free", "held"))
    assert drag(model, "--step-size", "0.05", "--out", free) == 0
    assert drag(model, "--step-size", "0.05", "--mask", str(tmp_path / "m.png"), "--out", held) == 0
    assert Image.open(free).tobytes() != Image.open(held).tobytes()
    assert json.loads(Image.open(held).info["DragGAN"])["mask"] is True


@pytest.mark.parametrize(
    "options", [("--space", "w"), ("--free-rows", "1"), ("--level", "b16"), ("--step-size", "0.1")]
)
def test_an_option_changes_the_result(model, tmp_path, options):
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert drag(model, "--step-size", "0.05", "--out", files[0]) == 0
    assert drag(model, "--step-size", "0.05", *options, "--out", files[1]) == 0
    assert Image.open(files[0]).tobytes() != Image.open(files[1]).tobytes()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--point", "99,1:2,2"], "outside the picture"),
        (["--point", "-5,3:4,4"], "outside the picture"),
        (["--steps", "0"], "max_steps = 0"),
        (["--step-size", "-1"], "step_size = -1"),
        (["--space", "z"], "choose 'w+' or 'w'"),
        (["--level", "b7"], "b7"),
        (["--truncation", "7"], "truncation"),
        (["--seed", "-1"], "seed -1"),
        (["--class", "3"], "no classes"),
        (["--mask", "nowhere.png"], "nowhere.png"),
        (["--out", "nowhere/x.png"], "cannot write"),
        (["--out", "x.jpg"], "only .png"),
        (["--device", "quantum"], "quantum"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_a_mistake_is_one_sentence_and_status_1(model, options, says, capsys):
    assert drag(model, *options) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.err.startswith("draggan: ")
    assert "Traceback" not in captured.err


def test_no_points_is_explained(model, capsys):
    assert main(["drag", "--model", model]) == 1
    assert "--point" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["1,2", "1,2:3", "a,b:c,d", ""])
def test_a_malformed_point_is_a_usage_error(text, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["drag", "--point", text])
    assert "60,70:80,64" in capsys.readouterr().err


def test_models_lists_the_built_in_one(capsys):
    assert main(["models"]) == 0
    assert "cat" in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["name"] == "cat"


def test_convert_goes_both_ways(model, tmp_path, capsys):
    assert main(["convert", model, str(tmp_path / "plain.pt")]) == 0
    state = torch.load(tmp_path / "plain.pt", weights_only=True)
    assert "synthesis.b4.const" in state
    assert main(["convert", model, str(tmp_path / "x.onnx")]) == 1
    assert "safetensors" in capsys.readouterr().err


def test_doctor_reports(capsys):
    main(["doctor", "--json"])
    items = json.loads(capsys.readouterr().out)
    assert all(item["status"] in ("ok", "slow", "broken") for item in items)
    main(["doctor"])
    assert "torch" in capsys.readouterr().out
