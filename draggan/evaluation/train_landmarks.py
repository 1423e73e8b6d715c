"""Train a landmark network: ``python -m draggan.evaluation.train_landmarks cat --minutes 15 --out runs/cat-landmarks``.

Renderings with exact landmarks, and pictures of the trained generator, whose every z has its scene. Both are degraded
in all the ways in which generated and dragged pictures differ from renderings, and more. Needs a compiler, as the
scenes do; one thread of a processor is enough.
"""

from __future__ import annotations

import argparse
import functools
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from draggan.checkpoints.store import load_generator
from draggan.errors import ConfigError, DragGANError, ModelNotFound
from draggan.generators.base import Generator
from draggan.landmarks import INPUT, LandmarkNetwork, load_landmarks, save_landmarks
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise
from draggan.scenes.scene import Rendering, Scene
from draggan.scenes.train import HELD_SEED, faster_dtype
from draggan.small_training import Progress, SmallConfig, SmallTrainer, training_facts

__all__ = ["Batch", "LandmarkConfig", "LandmarkTrainer", "Stock", "degrade", "export", "measure"]

logger = logging.getLogger(__name__)

_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class LandmarkConfig(SmallConfig):
    """Settings of one training; every ``generated`` steps come 32 pictures of the generator, where there is one.

    Attributes:
        hidden: weight of a landmark that is not visible.
        held: pictures of either kind measured at every checkpoint.
        widths, neck: as in `LandmarkNetwork`.
    """

    minutes: float = 15.0
    lr: float = 3e-3
    stock: int = 16384
    generated: int = 24
    hidden: float = 0.2
    save_minutes: float = 5.0
    held: int = 64
    widths: tuple[int, ...] = (24, 48, 96, 160)
    neck: int = 64


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures and their landmarks.

    Attributes:
        pictures: in [-1, 1].
        places: as parts of width and height, (0, 0) in the upper left corner.
        visible: not hidden by the scene itself.
    """

    pictures: Float[Tensor, "batch 3 64 64"]
    places: Float[Tensor, "batch landmark 2"]
    visible: Bool[Tensor, "batch landmark"]


class Stock:
    """Pictures to draw from, rendered and generated; the oldest make room for new ones.

    Args:
        generator: of pictures in which z is the scene's noise; None for renderings alone.
        capacity: how many are kept.
        block: the first block of scenes, so that a resumed training does not see the first ones again.
    """

    def __init__(self, scene: Scene, generator: Generator | None, *, capacity: int, seed: int, block: int = 0) -> None:
        self.scene, self.generator, self.seed, self.block = scene, generator, seed, block
        self.added = 0
        self._pictures = np.empty((capacity, 3, INPUT, INPUT), np.uint8)
        self._places = np.empty((capacity, len(scene.landmarks), 2), np.float32)
        self._visible = np.empty((capacity, len(scene.landmarks)), np.bool_)

    def __len__(self) -> int:
        return min(self.added, len(self._pictures))

    def render(self) -> None:
        """Add 32 renderings."""
        p = self.scene.parameters(self._noise())
        r = self.scene.render(p, INPUT, threads=1)
        self._add(r.pictures, _places(r, INPUT), r.visible)

    def generate(self) -> None:
        """Add 32 pictures of the generator."""
        assert self.generator is not None
        z = self._noise()
        # The smallest rendering has the landmarks too.
        r = self.scene.render(self.scene.parameters(z), 16, threads=1)
        made = generated_pictures(self.generator, z)
        pictures = ((F.interpolate(made, (INPUT, INPUT), mode="area") + 1) * 127.5).round().byte().numpy()
        self._add(pictures, _places(r, 16), r.visible)

    def draw(self, count: int, rng: np.random.Generator) -> Batch:
        """Random pictures."""
        i = rng.integers(0, len(self), count)
        return Batch(
            pictures=torch.from_numpy(self._pictures[i]).float() / 127.5 - 1,
            places=torch.from_numpy(self._places[i]),
            visible=torch.from_numpy(self._visible[i]),
        )

    def _noise(self) -> NDArray[np.float32]:
        self.block += 1
        return scene_noise(self.scene, self.seed, self.block - 1, _BLOCK)

    def _add(self, pictures: NDArray[np.uint8], places: NDArray[np.float32], visible: NDArray[np.bool_]) -> None:
        at = (self.added + np.arange(len(pictures))) % len(self._pictures)
        self._pictures[at], self._places[at], self._visible[at] = pictures, places, visible
        self.added += len(pictures)


def _places(rendering: Rendering, size: int) -> NDArray[np.float32]:
    """Landmarks ``[batch, landmark, 2]`` as parts of width and height."""
    return (rendering.points + np.float32(0.5)) / np.float32(size)


@torch.no_grad()
def generated_pictures(generator: Generator, z: NDArray[np.float32]) -> Float[Tensor, "batch 3 height width"]:
    """Pictures of z without truncation, in [-1, 1]: then each of them has its scene."""
    return torch.cat(
        [generator.synthesis(generator.mapping(part)).clamp(-1, 1).cpu() for part in torch.from_numpy(z).split(8)]
    )


def degrade(batch: Batch, random: torch.Generator) -> Batch:
    """The same scenes as other pictures: moved, recoloured, blurred, sharpened, with noise and coding artefacts."""
    n = len(batch.pictures)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(n, *shape, generator=random)

    def some(part: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=random) < part).float()

    x, places = _moved(batch.pictures, batch.places, uniform)
    # Colour: mixed channels, gain, offset, gamma.
    mix = torch.eye(3) + 0.12 * torch.randn(n, 3, 3, generator=random)
    x = torch.einsum("nij,njhw->nihw", mix / mix.sum(2, keepdim=True).clamp_min(0.5), x)
    x = x * uniform(0.7, 1.25, 3, 1, 1) + uniform(-0.15, 0.15, 3, 1, 1)
    x = 2 * ((x.clamp(-1, 1) + 1) / 2).clamp_min(1e-4) ** uniform(0.7, 1.4, 1, 1, 1) - 1
    grey = x.mean(1, keepdim=True)
    x = x + some(0.1) * (grey - x)
    # What generators do: halos, detail of half the size or none, patches that are brighter or darker.
    soft = _blurred(_blurred(x))
    x = x + some(0.4) * uniform(-0.9, 0.8, 1, 1, 1) * (x - soft)
    x = x + some(0.15) * (_blurred(_blurred(soft)) - x)
    half = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    x = x + some(0.2) * (half - x)
    patches = F.interpolate(torch.randn(n, 3, 8, 8, generator=random), (INPUT, INPUT), mode="bicubic")
    x = x + some(0.5) * uniform(0.0, 0.12, 1, 1, 1) * patches
    x = _coded(x, uniform(0.01, 0.15, 1, 1, 1) * some(0.2))
    x = x + some(0.5) * uniform(0.0, 0.10, 1, 1, 1) * torch.randn(x.shape, generator=random)
    return Batch(pictures=x.clamp(-1, 1), places=places, visible=batch.visible)


def _moved(pictures: Tensor, places: Tensor, uniform: Callable[..., Tensor]) -> tuple[Tensor, Tensor]:
    """Turned, stretched and shifted a little; landmarks go along."""
    angle, size = uniform(-0.14, 0.14), torch.exp(uniform(-0.10, 0.10, 2))
    c, s = torch.cos(angle), torch.sin(angle)
    # In [-1, 1], from places of the new picture to places of the old one.
    matrix = torch.stack([torch.stack([c, -s], -1), torch.stack([s, c], -1)], -2) * size[:, None]
    shift = uniform(-0.10, 0.10, 2)
    grid = F.affine_grid(torch.cat([matrix, shift[:, :, None]], 2), list(pictures.shape), align_corners=False)
    moved = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    old = 2 * places - 1
    new = torch.linalg.solve(matrix, (old - shift[:, None]).transpose(1, 2)).transpose(1, 2)
    return moved, (new + 1) / 2


def _blurred(x: Tensor) -> Tensor:
    kernel = torch.tensor([0.25, 0.5, 0.25])
    for shape in ((1, 1, 1, 3), (1, 1, 3, 1)):
        pad = (1, 1, 0, 0) if shape[3] == 3 else (0, 0, 1, 1)
        x = F.conv2d(F.pad(x, pad, mode="replicate"), kernel.view(shape).expand(3, 1, -1, -1), groups=3)
    return x


def _coded(x: Float[Tensor, "batch 3 64 64"], step: Float[Tensor, "batch 1 1 1"]) -> Tensor:
    """As JPEG would leave it: the cosine transform of 8 x 8 blocks, rounded to steps that grow with frequency."""
    k = torch.arange(8.0)
    basis = torch.cos(math.pi / 8 * (k[None] + 0.5) * k[:, None]) * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    n, cells = len(x), INPUT // 8
    blocks = x.view(n, 3, cells, 8, cells, 8).transpose(3, 4)
    frequencies = basis @ blocks @ basis.T
    steps = (step * (1 + 0.5 * (k[:, None] + k[None]))).view(n, 1, 1, 1, 8, 8).clamp_min(1e-4)
    back = basis.T @ ((frequencies / steps).round() * steps) @ basis
    return back.transpose(3, 4).reshape(x.shape)


@functools.cache
def _dtype() -> torch.dtype:
    return faster_dtype(torch.device("cpu"))


class LandmarkTrainer(SmallTrainer[LandmarkNetwork, LandmarkConfig]):
    """One training; its figure is the mean error of visible landmarks in degraded pictures, in percent of the width.

    Args:
        generator: adds its pictures to the renderings; None to do without. Other arguments as for `SmallTrainer`.
        init: a landmark network to start from instead of random weights; from one of another scene, all but the last
            layer is taken.
    """

    line = "error {:.2f} %"
    held_line = "rendered {:.2f} %, generated {:.2f} %"

    def __init__(
        self,
        scene: Scene,
        generator: Generator | None,
        config: LandmarkConfig,
        out: Path,
        *,
        resume: bool,
        init: Path | None = None,
    ) -> None:
        self.generator = generator
        torch.manual_seed(config.seed)
        network = LandmarkNetwork(scene.landmarks, config.widths, config.neck)
        if init is not None:
            start = load_landmarks(init)
            if (start.widths, start.neck_width) != (network.widths, network.neck_width):
                raise ConfigError(f"{init} is a network of other size than {config.widths} and {config.neck}")
            known = start.state_dict()
            if start.names != network.names:
                known |= {k: v for k, v in network.state_dict().items() if k.startswith("head.")}
            network.load_state_dict(known)
        super().__init__(scene, network, config, out, resume=resume)
        self.dtype = _dtype()
        self.stock = Stock(scene, generator, capacity=config.stock, seed=config.seed + 1, block=self.progress.block)
        while self.stock.added < config.first:
            self.stock.render()
            if generator is not None and self.stock.added % (8 * _BLOCK) == 0:
                self.stock.generate()

    def loss(self) -> tuple[Tensor, Tensor]:
        """See `SmallTrainer.loss`."""
        config, p = self.config, self.progress
        if p.steps % config.renew == 0:
            self.stock.render()
        if self.generator is not None and p.steps % config.generated == 0:
            self.stock.generate()
        p.block = self.stock.block
        batch = degrade(self.stock.draw(config.batch, self.rng), self.random)
        with torch.autocast("cpu", self.dtype, enabled=self.dtype != torch.float32):
            made = self.network.places(batch.pictures.contiguous(memory_format=torch.channels_last))
        distance = (made - batch.places).square().sum(-1).add(1e-6).sqrt()
        inside = ((batch.places > 0) & (batch.places < 1)).all(-1)
        seen = batch.visible & inside
        weight = config.hidden + (1 - config.hidden) * seen.float()
        return (distance * weight).sum() / weight.sum(), 100 * distance[seen].mean()

    def measure(self) -> tuple[float, float]:
        """See `SmallTrainer.measure`."""
        return measure(self.average, self.scene, self.generator, count=self.config.held)


@torch.no_grad()
def measure(
    network: LandmarkNetwork, scene: Scene, generator: Generator | None, *, count: int, size: int = 128, first: int = 8
) -> tuple[float, float]:
    """Mean error of visible landmarks in pictures that training never sees.

    Args:
        count: how many pictures of either kind.
        size: of the renderings, in pixels.
        first: block of held noise to begin with.

    Returns:
        Percent of the width: in renderings, and in pictures of the generator against the scene's truth (nan without
        a generator).
    """
    blocks = range(first, first + math.ceil(count / _BLOCK))
    z = np.concatenate([scene_noise(scene, HELD_SEED, block, _BLOCK) for block in blocks])[:count]
    truth = scene.render(scene.parameters(z), size, threads=1)
    places = _places(truth, size)
    rendered = _error(network, torch.from_numpy(truth.pictures).float() / 127.5 - 1, places, truth.visible)
    if generator is None:
        return rendered, math.nan
    return rendered, _error(network, generated_pictures(generator, z), places, truth.visible)


def _error(
    network: LandmarkNetwork,
    pictures: Float[Tensor, "batch 3 size size"],
    places: Float[np.ndarray, "batch landmark 2"],
    visible: Bool[np.ndarray, "batch landmark"],
) -> float:
    found = torch.cat([network(part) for part in pictures.split(32)]).numpy()
    found = (found + 0.5) / pictures.shape[-1]
    return float(100 * np.linalg.norm(found - places, axis=-1)[visible].mean())


def export(checkpoint: Path, target: Path, generator: Generator | None, *, count: int = 256) -> tuple[float, float]:
    """Write the averaged network of a training checkpoint as a file of `find_landmarks`.

    Returns:
        Its errors on ``count`` held renderings and generated pictures, as `measure` gives them, after rounding to
        float16.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"there is no {checkpoint}; train first, with the same --out and without --export")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config, progress = LandmarkConfig(**state["config"]), Progress(**state["progress"])
    scene = find_scene(state["scene"])
    network = LandmarkNetwork(scene.landmarks, config.widths, config.neck)
    network.load_state_dict(state["average"])
    save_landmarks(network, target, **training_facts(scene.name, "landmarks", config, progress))
    rendered, generated = measure(load_landmarks(target), scene, generator, count=count)
    logger.info(
        "wrote %s (%.2f MB): error %.2f %% rendered, %.2f %% generated",
        target,
        target.stat().st_size / 1e6,
        rendered,
        generated,
    )
    return rendered, generated


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m draggan.evaluation.train_landmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("scene", help="whose landmarks to learn, e.g. cat")
    parser.add_argument("--minutes", type=float, default=15.0, help="training time in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on where the folder's checkpoint ended")
    parser.add_argument("--init", type=Path, help="start from this landmark network, of any scene")
    parser.add_argument("--generator", help="a model of the scene, or 'none' (default: the built-in one of that name)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--export", type=Path, help="only write the folder's checkpoint as this .safetensors file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    try:
        generator = _generator(options.generator, options.scene)
        if options.export is not None:
            export(options.out / "checkpoint.pt", options.export, generator)
            return 0
        config = LandmarkConfig(minutes=options.minutes, seed=options.seed)
        scene = find_scene(options.scene)
        LandmarkTrainer(scene, generator, config, options.out, resume=options.resume, init=options.init).run()
    except DragGANError as error:
        logger.error("%s", error)
        return 1
    return 0


def _generator(name: str | None, scene: str) -> Generator | None:
    if name == "none":
        return None
    try:
        generator = load_generator(name or scene, device="cpu")
    except ModelNotFound:
        if name is not None:
            raise
        logger.info("there is no built-in model '%s' yet: renderings alone", scene)
        return None
    if generator.z_dim != find_scene(scene).z_dim:
        raise ConfigError(f"'{name or scene}' takes noise of {generator.z_dim} numbers; scene '{scene}' another number")
    return generator


if __name__ == "__main__":
    raise SystemExit(main())
