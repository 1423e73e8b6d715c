"""Train an encoder: ``python -m draggan.inversion.train_encoder cat --minutes 12 --out runs/cat-encoder``.

Renderings of random scenes and what the model draws of the same noise, whose latents the model's mapping network gives,
a little blurred, noisy and of other brightness. Needs a compiler, as the scenes do; one thread is enough.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from dnnlib.cache import replacing
from dnnlib.digests import sha256_of
from draggan.checkpoints.store import load_generator, locate
from draggan.errors import ConfigError, DragGANError
from draggan.generators.base import Generator
from draggan.inversion.encoder import INPUT, Encoder, save_encoder
from draggan.scenes import find_scene
from draggan.scenes.pool import scene_noise
from draggan.scenes.scene import Scene
from draggan.scenes.train import HELD_SEED
from draggan.small_networks import follow

__all__ = ["EncoderConfig", "EncoderTrainer", "explained"]

logger = logging.getLogger(__name__)

_BLOCK = 32


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Settings of one training, all chosen by us.

    Attributes:
        minutes: training time, all runs of a resumed training together; rendering included.
        seed: of weights, pictures and batches.
        batch: pictures per step.
        lr: AdamW's step after the warm-up; it falls to 1 % along a cosine.
        warmup: steps of linear warm-up.
        weight_decay: of AdamW.
        ema_steps: half-life of the weight average, in steps.
        stock: how many pictures are kept to draw from.
        first: how many are rendered before the first step.
        renew: steps per 32 new pictures.
        generated: every so many of these are the generator's.
        save_minutes: time between checkpoints.
    """

    minutes: float = 12.0
    seed: int = 0
    batch: int = 32
    lr: float = 2e-3
    warmup: int = 100
    weight_decay: float = 1e-3
    ema_steps: float = 200.0
    stock: int = 12288
    first: int = 1024
    renew: int = 3
    generated: int = 5
    save_minutes: float = 4.0

    def __post_init__(self) -> None:
        if not self.minutes > 0:
            raise ConfigError(f"minutes {self.minutes} is not allowed; it must be above 0")
        if min(self.batch, self.stock, self.first, self.renew, self.generated) < 1:
            raise ConfigError("batch, stock, first, renew and generated must be at least 1")


class EncoderTrainer:
    """One training in one folder: ``checkpoint.pt``.

    Args:
        scene: what the generator was trained on.
        generator: whose latents are guessed.
        out: folder, created if missing.
        resume: go on from ``checkpoint.pt`` if there is one.
    """

    def __init__(self, scene: Scene, generator: Generator, config: EncoderConfig, out: Path, *, resume: bool) -> None:
        if generator.z_dim != scene.z_dim:
            raise ConfigError(
                f"the model takes noise of {generator.z_dim} numbers; scene '{scene.name}' of {scene.z_dim}"
            )
        self.scene, self.generator, self.config, self.out = scene, generator, config, out
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.network = Encoder(generator.w_dim)
        with torch.no_grad():
            latents = generator.mapping(torch.randn(8192, generator.z_dim))[:, 0]
        self.network.mean.copy_(latents.mean(0))
        # One spread for all numbers, so that an error counts as much as it moves the latent.
        self.network.spread.fill_(float((latents - latents.mean(0)).square().mean().sqrt()))
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=config.lr, betas=(0.9, 0.99), weight_decay=config.weight_decay, fused=True
        )
        self.seconds, self.steps, self.block = 0.0, 0, 0
        if resume and self.checkpoint.is_file():
            self._restore()
        self.rng = np.random.default_rng((config.seed, self.steps))
        self.random = torch.Generator().manual_seed(1_000_003 * config.seed + self.steps)
        self._pictures = np.empty((config.stock, 3, INPUT, INPUT), np.uint8)
        self._latents = torch.empty(config.stock, generator.w_dim)
        self._added = 0
        while self._added < config.first:
            self._add()

    @property
    def checkpoint(self) -> Path:
        """The file that a resumed training starts from."""
        return self.out / "checkpoint.pt"

    def run(self) -> None:
        """Train until the time is up; saves from time to time and at the end."""
        limit = self.config.minutes * 60
        before = last_save = last_log = time.monotonic()
        running = weight = 0.0
        while self.seconds < limit:
            loss = self.step(self.seconds / limit)
            running, weight = running * 0.98 + loss * 0.02, weight * 0.98 + 0.02
            now = time.monotonic()
            self.seconds += now - before
            before = now
            if now - last_log >= 20:
                logger.info("%5.1f min  step %d  left %.3f", self.seconds / 60, self.steps, running / weight)
                last_log = now
            if now - last_save >= self.config.save_minutes * 60:
                self.save()
                last_save = time.monotonic()
        self.save()

    def step(self, part: float) -> float:
        """One optimiser step.

        Args:
            part: how much of the time is over, 0 to 1; decides the step size.

        Returns:
            The share of the latents' variance that is left, in degraded pictures.
        """
        config = self.config
        lr = config.lr * min(1.0, (self.steps + 1) / config.warmup)
        for group in self.optimiser.param_groups:
            group["lr"] = lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * part)))
        if self.steps % config.renew == 0:
            self._add()
        which = self.rng.integers(0, min(self._added, len(self._pictures)), config.batch)
        pictures = degrade(torch.from_numpy(self._pictures[which]).float() / 127.5 - 1, self.random)
        wanted = (self._latents[which] - self.network.mean) / self.network.spread
        self.network.train()
        # In float32: measured on two cores, bfloat16 takes a third longer.
        made = self.network.standardised(pictures.contiguous(memory_format=torch.channels_last))
        loss = (made - wanted).square().mean()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.steps += 1
        follow(self.average, self.network, self.steps, config.ema_steps)
        return float(loss.detach())

    def save(self) -> None:
        """Write the checkpoint, as a whole or not at all."""
        rendered, generated = explained(self.average, self.scene, self.generator)
        logger.info(
            "%5.1f min  held pictures: %.1f %% of the latents' variance explained in renderings, %.1f %% in generated",
            self.seconds / 60,
            100 * rendered,
            100 * generated,
        )
        state = {
            "scene": self.scene.name,
            "progress": (self.seconds, self.steps, self.block),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)

    def export(self, target: Path, *, model_sha256: str) -> None:
        """Write the averaged network as a file of `find_encoder`."""
        save_encoder(
            self.average,
            target,
            model_sha256=model_sha256,
            name=f"{self.scene.name}-encoder",
            licence="Apache-2.0",
            source=f"trained on the procedural scene '{self.scene.name}' of this project; no photograph was used",
            training=f"{self.steps} steps of {self.config.batch} in {self.seconds / 60:.1f} minutes",
        )

    def _add(self) -> None:
        z = scene_noise(self.scene, self.config.seed + 2, self.block, _BLOCK)
        self.block += 1
        ws, generated = _known(self.generator, z, draw=self.block % self.config.generated == 0)
        pictures = self.scene.render(self.scene.parameters(z), INPUT, threads=1).pictures
        if generated is not None:
            pictures = ((generated + 1) * 127.5).round().byte().numpy()
        at = (self._added + np.arange(_BLOCK)) % len(self._pictures)
        self._pictures[at], self._latents[at] = pictures, ws
        self._added += _BLOCK

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        if state["scene"] != self.scene.name:
            raise ConfigError(f"{self.checkpoint} is a training of another scene; choose another --out")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.seconds, self.steps, self.block = state["progress"]
        logger.info("resumed after %.1f min and %d steps", self.seconds / 60, self.steps)


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
