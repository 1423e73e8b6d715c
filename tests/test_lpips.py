"""LPIPS from weights on this disk: the published distance; photos come nearer by it. The weights are random."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from draggan.cli import main
from draggan.config import InversionConfig
from draggan.errors import CheckpointError
from draggan.inversion import Inversion
from draggan.inversion.lpips import Lpips, read_lpips
from tests.conftest import tiny_stylegan2

_MAPS = {"AlexNet": (1, 4, 7, 9, 11), "VGG-16": (3, 8, 15, 22, 29)}  # numbers of layers, from their published tables


def layers(name: str, a: int = 8, b: int = 12) -> nn.Sequential:
    """A network as torchvision lays it out, with fewer channels."""
    torch.manual_seed(3)
    if name == "AlexNet":
        pool = nn.MaxPool2d(3, 2)
        made = [nn.Conv2d(3, a, 11, 4, 2), nn.ReLU(), pool, nn.Conv2d(a, b, 5, 1, 2), nn.ReLU(), pool]
        for _ in range(3):
            made += [nn.Conv2d(b, b, 3, 1, 1), nn.ReLU()]
        return nn.Sequential(*made).requires_grad_(False)
    made, channels = [], 3
    for number, (width, count) in enumerate(((a, 2), (b, 2), (b, 3), (b, 3), (b, 3))):
        made += [nn.MaxPool2d(2, 2)] if number else []
        for _ in range(count):
            made += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU()]
            channels = width
    return nn.Sequential(*made).requires_grad_(False)


def tensors(name: str) -> dict[str, torch.Tensor]:
    network = layers(name)
    found = {f"features.{key}": value for key, value in network.state_dict().items()}
    for number, at in enumerate(_MAPS[name]):
        width = network[at - 1].out_channels
        found[f"lin{number}.model.1.weight"] = torch.rand(1, width, 1, 1)
    return found


def pictures(size: int) -> torch.Tensor:
    return torch.rand(2, 1, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("name", ["AlexNet", "VGG-16"])
def test_it_is_equation_1_of_the_paper(name):
    known, network = tensors(name), layers(name)
    a, b = pictures(96)
    wanted = 0.0
    x, y = (
        ((p + 1) / 2 - torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        / torch.tensor([0.229, 0.224, 0.225])[:, None, None]
        for p in (a, b)
    )
    for number, layer in enumerate(network):
        x, y = layer(x), layer(y)
        if number in _MAPS[name]:
            weights = known[f"lin{_MAPS[name].index(number)}.model.1.weight"]
            wanted += float((weights * (F.normalize(x, dim=1) - F.normalize(y, dim=1)) ** 2).sum(1).mean())
    distance = Lpips(known)
    assert distance.name == name
    assert float(distance(a, b)) == pytest.approx(wanted, rel=1e-4)
    assert float(distance(a, a)) == 0


def test_files_of_both_packages_are_read(tmp_path):
    known = tensors("VGG-16")
    groups = {f"net.slice{1 + (int(key.split('.')[1]) > 3)}.{key[9:]}": key for key in known if key.startswith("feat")}
    whole = {new: known[old] for new, old in groups.items()} | {k: v for k, v in known.items() if k.startswith("lin")}
    torch.save(whole, tmp_path / "lpips.pt")
    save_file({k: v for k, v in known.items() if k.startswith("features")}, tmp_path / "network.safetensors")
    torch.save({k: v for k, v in known.items() if k.startswith("lin")}, tmp_path / "linear.pth")
    a, b = pictures(64)
    one = read_lpips(tmp_path / "lpips.pt")(a, b)
    assert torch.equal(one, read_lpips(tmp_path / "network.safetensors", tmp_path / "linear.pth")(a, b))


class _Runs:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize("kind", ["missing", "code", "broken", "other", "half", "negative", "infinite", "shape"])
def test_what_does_not_fit_ends_in_a_sentence(tmp_path, capsys, kind):
    path, known = tmp_path / "weights.pt", tensors("AlexNet")
    if kind == "broken":
        path.write_bytes(b"PK\3\4 no archive")
    elif kind == "half":
        torch.save({k: v for k, v in known.items() if k.startswith("features")}, path)
    elif kind != "missing":
        changed = {
            "code": {"features.0.weight": _Runs()},
            "other": {"features.0.weight": torch.zeros(8, 3, 5, 5)},
            "negative": {"lin1.model.1.weight": -torch.ones(1, 12, 1, 1)},
            "infinite": {"features.3.bias": torch.full((12,), float("inf"))},
            "shape": {"features.3.weight": torch.zeros(12, 9, 5, 5)},
        }
        torch.save(known | changed[kind], path)
    with pytest.raises(CheckpointError):
        read_lpips(path)
    assert "run" not in capsys.readouterr().out


def test_a_photo_comes_nearer_by_it():
    generator, distance = tiny_stylegan2(), Lpips(tensors("AlexNet"))
    photo = ((pictures(32)[0, 0] + 1) * 127.5).byte().permute(1, 2, 0).numpy()
    target = torch.tensor(photo).permute(2, 0, 1)[None].float() / 127.5 - 1
    config = InversionConfig(coarse_steps=0, steps=10, tuning_steps=30)
    reached = []
    for lpips in (None, distance):
        inversion = Inversion(generator, photo, config, lpips=lpips)
        for _ in inversion:
            pass
        reached.append(float(distance(inversion.result.picture, target)))
    assert reached[1] < 0.97 * reached[0]


def test_the_command_says_what_is_wrong_with_the_weights(tmp_path, capsys):
    (tmp_path / "me.png").write_bytes(b"looked at later")
    options = ["--model", "face", "--out", str(tmp_path / "me.draggan"), "--lpips", str(tmp_path / "none.pt")]
    assert main(["invert", str(tmp_path / "me.png"), *options]) != 0
    assert "none.pt" in capsys.readouterr().err
