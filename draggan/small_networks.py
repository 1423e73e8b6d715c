"""What the small networks that come with built-in models are made of, and how they are kept and averaged."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dnnlib.cache import replacing
from draggan.errors import CheckpointError

__all__ = ["Convolution", "Residual", "follow", "read_network", "take_over", "write_network"]

_COUNTER = "num_batches_tracked"  # of training alone, and in no file


class Convolution(nn.Module):
    """A convolution, batch normalisation and, if ``active``, the positive part."""

    def __init__(self, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, active: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        return F.relu(x) if self.active else x


class Residual(nn.Module):
    """Two convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(width, width), Convolution(width, width, active=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


def write_network(network: nn.Module, path: Path, metadata: dict[str, str]) -> None:
    """Write a network's tensors, float16, whole or not at all."""
    tensors = {k: v.half().contiguous() for k, v in network.state_dict().items() if not k.endswith(_COUNTER)}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)  # the writer creates it readable by its owner only


def read_network(path: str | Path, kind: str, called: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors, float32, and metadata of a file of `write_network`.

    Args:
        kind: what its metadata must say.
        called: what such a network is called in messages.

    Raises:
        CheckpointError: the file is missing, damaged or of another kind.
    """
    try:
        with safe_open(str(path), framework="pt") as file:
            metadata: dict[str, str] = file.metadata() or {}
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if metadata.get("kind") != kind:
        raise CheckpointError(f"{path} holds no {called}, but '{metadata.get('family', 'something else')}'")
    return tensors, metadata


def take_over(network: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Give a network the tensors of a file.

    Raises:
        RuntimeError: they do not fit.
    """
    network.load_state_dict(tensors | {k: v for k, v in network.state_dict().items() if k.endswith(_COUNTER)})


@torch.no_grad()
def follow(average: nn.Module, network: nn.Module, steps: int, half_life: float) -> None:
    """Move an average of weights towards a network's; faster at the beginning of a training.

    Args:
        steps: how many there have been.
        half_life: of what the average remembers, in steps.
    """
    keep = 0.5 ** (1 / min(half_life, 0.1 * steps + 1))
    for mine, its in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        if mine.is_floating_point():
            mine.lerp_(its, 1 - keep)
