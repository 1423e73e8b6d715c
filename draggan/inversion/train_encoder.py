"""Train an encoder: ``python -m draggan.inversion.train_encoder cat --minutes 12 --out runs/cat-encoder``.

Renderings of random scenes and what the model draws of the same noise, whose latents the model's mapping network gives,
a little blurred, noisy and of other brightness. Needs a compiler, as the scenes do; one thread is enough.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dnnlib.digests import sha256_of
from draggan.checkpoints.store import load_generator, locate
from draggan.errors import ConfigError, DragGANError
from draggan.generators.base import Generator
from draggan.inversion.encoder import INPUT, Encoder, save_encoder
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise
from draggan.scenes.scene import Scene
from draggan.scenes.train import HELD_SEED
from draggan.small_training import SmallConfig, SmallTrainer, training_facts

__all__ = ["EncoderConfig", "EncoderTrainer", "explained"]

logger = logging.getLogger(__name__)

_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(SmallConfig):
    """Settings of one training; one block of pictures in ``generated`` is the generator's."""

    minutes: float = 12.0
    lr: float = 2e-3
    stock: int = 12288
    generated: int = 5
    save_minutes: float = 4.0


class EncoderTrainer(SmallTrainer[Encoder, EncoderConfig]):
    """One training; its figure is the share of the latents' variance that is left, in degraded pictures.

    Args:
        generator: whose latents are guessed; the other arguments as for `SmallTrainer`.
    """

    line = "left {:.3f}"
    held_line = "{:.1%} of the latents' variance explained in renderings, {:.1%} in generated"

    def __init__(self, scene: Scene, generator: Generator, config: EncoderConfig, out: Path, *, resume: bool) -> None:
        if generator.z_dim != scene.z_dim:
            raise ConfigError(
                f"the model takes noise of {generator.z_dim} numbers; scene '{scene.name}' of {scene.z_dim}"
            )
        self.generator = generator
        torch.manual_seed(config.seed)
        network = Encoder(generator.w_dim)
        with torch.no_grad():
            latents = generator.mapping(torch.randn(8192, generator.z_dim))[:, 0]
        network.mean.copy_(latents.mean(0))
        # One spread for all numbers, so that an error counts as much as it moves the latent.
        network.spread.fill_(float((latents - latents.mean(0)).square().mean().sqrt()))
        super().__init__(scene, network, config, out, resume=resume)
        self._pictures = np.empty((config.stock, 3, INPUT, INPUT), np.uint8)
        self._latents = torch.empty(config.stock, generator.w_dim)
        self._added = 0
        while self._added < config.first:
            self._add()

    def loss(self) -> tuple[Tensor, Tensor]:
        """See `SmallTrainer.loss`."""
        config = self.config
        if self.progress.steps % config.renew == 0:
            self._add()
        which = self.rng.integers(0, min(self._added, len(self._pictures)), config.batch)
        pictures = degrade(torch.from_numpy(self._pictures[which]).float() / 127.5 - 1, self.random)
        wanted = (self._latents[which] - self.network.mean) / self.network.spread
        # In float32: measured on two cores, bfloat16 takes a third longer.
        made = self.network.standardised(pictures.contiguous(memory_format=torch.channels_last))
        loss = (made - wanted).square().mean()
        return loss, loss

    def measure(self) -> tuple[float, float]:
        """See `SmallTrainer.measure`."""
        return explained(self.average, self.scene, self.generator)

    def export(self, target: Path, *, model_sha256: str) -> None:
        """Write the averaged network as a file of `find_encoder`."""
        facts = training_facts(self.scene.name, "encoder", self.config, self.progress)
        save_encoder(self.average, target, model_sha256=model_sha256, **facts)

    def _add(self) -> None:
        p = self.progress
        z = scene_noise(self.scene, self.config.seed + 2, p.block, _BLOCK)
        p.block += 1
        ws, generated = _known(self.generator, z, draw=p.block % self.config.generated == 0)
        pictures = self.scene.render(self.scene.parameters(z), INPUT, threads=1).pictures
        if generated is not None:
            pictures = ((generated + 1) * 127.5).round().byte().numpy()
        at = (self._added + np.arange(_BLOCK)) % len(self._pictures)
        self._pictures[at], self._latents[at] = pictures, ws
        self._added += _BLOCK


@torch.no_grad()
def _known(
    generator: Generator, z: Float[np.ndarray, "batch z_dim"], *, draw: bool
) -> tuple[Float[Tensor, "batch w_dim"], Float[Tensor, "batch 3 128 128"] | None]:
    """Latents of noise, and what the generator draws of them, small."""
    ws = generator.mapping(torch.from_numpy(z))
    if not draw:
        return ws[:, 0], None
    made = torch.cat([generator.synthesis(part).clamp(-1, 1) for part in ws.split(4)])
    return ws[:, 0], F.interpolate(made, (INPUT, INPUT), mode="area")


def degrade(pictures: Float[Tensor, "batch 3 128 128"], random: torch.Generator) -> Float[Tensor, "batch 3 128 128"]:
    """The same scenes as other pictures: softer, sharper, noisier, a little brighter or darker."""
    n = len(pictures)

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(n, 1, 1, 1, generator=random)

    def some(share: float) -> Tensor:
        return (torch.rand(n, 1, 1, 1, generator=random) < share).float()

    soft = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
    x = pictures + some(0.5) * uniform(-0.5, 0.9) * (soft - pictures)
    x = x * (1 + some(0.3) * uniform(-0.06, 0.06)) + some(0.3) * uniform(-0.05, 0.05)
    x = x + some(0.4) * uniform(0.0, 0.06) * torch.randn(x.shape, generator=random)
    return x.clamp(-1, 1)


@torch.no_grad()
def explained(network: Encoder, scene: Scene, generator: Generator, *, count: int = 64) -> tuple[float, float]:
    """Share of the latents' variance that the network explains in pictures that training never sees.

    Returns:
        Of renderings, and of generated pictures; 1 at best.
    """
    z = np.concatenate([scene_noise(scene, HELD_SEED, block, _BLOCK) for block in range(16, 16 + -(-count // _BLOCK))])
    ws, generated = _known(generator, z[:count], draw=True)
    assert generated is not None
    pictures = scene.render(scene.parameters(z[:count]), INPUT, threads=1).pictures
    variance = float((ws - network.mean).square().mean())
    rendered = torch.from_numpy(pictures).float() / 127.5 - 1
    left = [float((network(some) - ws).square().mean()) / variance for some in (rendered, generated)]
    return 1 - left[0], 1 - left[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m draggan.inversion.train_encoder", description=__doc__.split("\n")[0]
    )
    parser.add_argument("scene", help="a scene with a model, e.g. cat")
    parser.add_argument("--minutes", type=float, default=12.0, help="training time in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--resume", action="store_true", help="go on where the folder's checkpoint ended")
    parser.add_argument("--generator", help="a model of the scene (default: the built-in one of that name)")
    parser.add_argument("--out", type=Path, required=True, help="folder for the checkpoint")
    parser.add_argument("--export", type=Path, help="also write the trained network as this .safetensors file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(1)
    try:
        generator = load_generator(options.generator or options.scene, device="cpu")
        config = EncoderConfig(minutes=options.minutes, seed=options.seed)
        trainer = EncoderTrainer(find_scene(options.scene), generator, config, options.out, resume=options.resume)
        trainer.run()
        if options.export is not None:
            trainer.export(options.export, model_sha256=sha256_of(locate(options.generator or options.scene)))
    except DragGANError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
