"""How well models draw held scenes: generated above rendered, with figures; other files of the same scenes beside them.

Pairs that training never sees, truncation 1, at the model's own size. *Outlines* are the pixels within 1 / 128 of the
width of a border between two parts, or part and backdrop; *sharpness* is the energy of differences between neighbouring
pixels over that of the renderings; *left at 64 px* is the part of the squared error that remains when pictures and
renderings are averaged to 64 px: of what is in another place or of another colour, not only soft. A smaller model's
pictures are enlarged to the size of the others.
"""

from __future__ import annotations

import argparse
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from benchmarks import machine
from benchmarks.timing import publish, table
from draggan import load_generator
from draggan.checkpoints.catalogue import builtin_dir
from draggan.errors import ConfigError
from draggan.scenes import Scene, find_scene
from draggan.scenes.objective import outlines, psnr
from draggan.scenes.pool import scene_noise
from draggan.scenes.train import HELD_SEED, sheet

__all__ = ["Held", "main"]

COMMENT = b"AI-generated images, made with DragGAN"


@dataclass(frozen=True, kw_only=True, eq=False)
class Held:
    """Held scenes of one kind, rendered.

    Attributes:
        right: renderings in [-1, 1].
        near: 1 near an outline.
    """

    scene: Scene
    noise: Float[Tensor, "n z_dim"]
    right: Float[Tensor, "n 3 size size"]
    near: Float[Tensor, "n 1 size size"]

    @classmethod
    def of(cls, scene: Scene, size: int, count: int) -> Held:
        """So many of them."""
        noise = scene_noise(scene, HELD_SEED, 1, count)
        r = scene.render(scene.parameters(noise), size, segments=True)
        assert r.segments is not None
        right, near = torch.from_numpy(r.pictures).float() / 127.5 - 1, outlines(torch.from_numpy(r.segments))
        return cls(scene=scene, noise=torch.from_numpy(noise), right=right, near=near[:, None].float())

    @torch.no_grad()
    def drawn(self, model: str | Path) -> Float[Tensor, "n 3 size size"]:
        """The same scenes by a model, as large as the renderings."""
        generator = load_generator(model, device="cpu")
        if generator.z_dim != self.scene.z_dim:
            raise ConfigError(f"{model} takes noise of {generator.z_dim} numbers, its scene {self.scene.z_dim}")
        made = torch.cat([generator.synthesis(generator.mapping(z)) for z in self.noise.split(8)]).clamp(-1, 1)
        size = self.right.shape[-1]
        return made if made.shape[-1] == size else F.interpolate(made, (size, size), mode="bicubic").clamp(-1, 1)

    def figures(self, made: Float[Tensor, "n 3 size size"]) -> list[float]:
        """PSNR, that near outlines, sharpness, mean absolute error of 255, and the part of the error left at 64 px."""
        error = made - self.right
        left = F.adaptive_avg_pool2d(error, 64).square().mean() / error.square().mean()
        wrong = (error.square().mean(1, keepdim=True) * self.near).sum() / self.near.sum()
        sharpness = _steepness(made) / _steepness(self.right)
        return [
            psnr(made, self.right),
            10 * math.log10(4 / float(wrong)),
            sharpness,
            127.5 * float(error.abs().mean()),
            float(left),
        ]


def _steepness(x: Float[Tensor, "n 3 size size"]) -> float:
    across, down = x[..., 1:, 1:] - x[..., 1:, :-1], x[..., 1:, 1:] - x[..., :-1, 1:]
    return float(across.square().mean() + down.square().mean())


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks quality", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="sixteen scenes")
    parser.add_argument("--models", nargs="+", default=["cat", "face", "car"])
    parser.add_argument("--against", type=Path, help="a folder with other files of the same names")
    parser.add_argument("--count", type=int, default=128, help="held scenes (default: %(default)s)")
    parser.add_argument("--size", type=int, default=256, help="of the renderings, pixels (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--pictures", type=Path, help="write sheets MODEL.jpg, generated above rendered, into this folder"
    )
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    here = machine.describe()
    rows: list[list[object]] = []
    for name in args.models:
        held = Held.of(find_scene(name), args.size, 16 if args.quick else args.count)
        files = {"shipped": builtin_dir() / f"{name}.safetensors"}
        if args.against is not None:
            files["against"] = args.against / f"{name}.safetensors"
        for which, file in files.items():
            made = held.drawn(str(file))
            all_of, outline, sharpness, absolute, left = held.figures(made)
            cells = f"{all_of:.2f}", f"{outline:.2f}", f"{sharpness:.2f}", f"{absolute:.1f}", f"{left:.0%}"
            rows.append([name, which, *cells])
            print(" | ".join(map(str, rows[-1])), flush=True)
            if args.pictures is not None:
                buffer = io.BytesIO()
                shown = sheet(made[:16], held.right[:16], args.size // 2)
                shown.save(buffer, "JPEG", quality=88, comment=COMMENT)
                ending = "" if which == "shipped" else "-against"
                (args.pictures / f"{name}{ending}.jpg").write_bytes(buffer.getvalue())
    columns = ["model", "", "PSNR, dB", "near outlines, dB", "sharpness", "absolute error, of 255", "left at 64 px"]
    count = 16 if args.quick else args.count
    head = f"# How well the built-in models draw held scenes\n\n`python -m benchmarks quality`, {count} scenes a model"
    publish(f"{head}; {here.markdown()}.\n\n{table(columns, rows)}", args.out)
    return 0
