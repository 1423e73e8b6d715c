"""Train a StyleGAN2 generator to draw a scene: ``python -m draggan.scenes.train cat --minutes 100 --out runs/cat``.

Noise z has one number per scene parameter, so every z has one right picture, and the generator learns the pair
(z, rendering) with an L1 loss on the picture and on its Laplacian pyramid, weighted by how much each pixel matters. It
grows 32 -> 64 -> full size: the picture that the ``skip`` architecture has at a resolution is supervised first. The
result is an ordinary StyleGAN2 with an ordinary latent space, in an hour or two on two CPU cores. Where there is a GPU,
a discriminator joins in at full size (`draggan.scenes.adversary`), on pictures of noise that no pair was made for.
"""

from __future__ import annotations

import argparse
import copy
import json
import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from dnnlib.cache import replacing
from draggan.device import choose_device
from draggan.errors import ConfigError, DragGANError
from draggan.generators.stylegan2 import StyleGAN2Generator
from draggan.generators.stylegan2.config import StyleGAN2Config
from draggan.scenes import find_scene
from draggan.scenes.adversary import Adversary
from draggan.scenes.device_pool import BLOCK, DevicePool
from draggan.scenes.objective import loss, pixel_weights, psnr, synthesise
from draggan.scenes.pool import Drawn, ScenePool, scene_noise
from draggan.scenes.recorded_steps import RecordedSteps
from draggan.scenes.scene import Scene
from torch_utils.ops import library
from torch_utils.pytorch_internals import lerp_all
from torch_utils.recorder import recorder_for

__all__ = ["HELD_SEED", "TrainConfig", "Trainer", "export", "faster_dtype", "sheet"]

logger = logging.getLogger(__name__)

HELD_SEED = 7_777_777
"""Seed of the pairs that training never sees."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Settings of one training, all chosen by us.

    Attributes:
        scene: name of the scene.
        resolution: picture size in pixels, a power of two, at least 32.
        minutes: training time, all runs of a resumed training together.
        seed: of weights, scenes and batches.
        w_dim, mapping_layers, channel_base, channel_max: as in `StyleGAN2Generator`.
        lr: Adam's step at 32 px; each doubling of the resolution takes ``lr_growth`` of it.
        warmup: steps of linear warm-up after the start and after every growth.
        decay: the last part of the time, in which the step falls to 2 %.
        stages: part of the time at which each resolution starts, the first at 0; None for a schedule by size.
        batch: pictures per step. Small, because on a CPU steps are what is scarce; a GPU takes 64.
        settle: the weights given are trained already: full size from the start, the later settings of the loss, and
            steps of a fifteenth of the size that fall to nothing.
        clip: limit of the gradient's norm.
        ema_pictures: half-life of the weight average, in pictures.
        sharpen_from: part of the time from which the loss has its ``energy`` term, of weight ``sharpen``.
        flatten: exponent of the importance weights from 60 % of the time on, having been 1 up to 35 %. Small parts
            are not found without strong weights; once they are there, outlines and backdrop deserve some attention.
        outline: how much more a pixel near an outline counts, on either side: 0 for no more than others.
        slopes: weight of the L1 between differences of neighbouring pixels.
        adversarial_from: part of the time from which a discriminator takes part, at full size; None for never, which
            is what a CPU has time for.
        adversarial: weight of its objection in the generator's loss.
        adversarial_lr, r1: step size of the discriminator, and weight of its penalty.
        noise_strength: fixed strength of the constant noise inputs; weak, because a scene leaves nothing to chance.
        pool, pool_first, pool_share: see `ScenePool`.
        save_minutes: time between checkpoints.
    """

    scene: str
    resolution: int = 128
    minutes: float = 100.0
    seed: int = 0
    w_dim: int = 256
    mapping_layers: int = 4
    channel_base: int = 4096
    channel_max: int = 256
    lr: float = 5e-3
    lr_growth: float = 0.9
    warmup: int = 100
    decay: float = 0.25
    stages: tuple[float, ...] | None = None
    batch: int = 16
    settle: bool = False
    clip: float = 1.0
    ema_pictures: float = 5000.0
    sharpen_from: float = 0.68
    sharpen: float = 4.0
    flatten: float = 0.4
    outline: float = 2.0
    slopes: float = 1.0
    adversarial_from: float | None = None
    adversarial: float = 0.05
    adversarial_lr: float = 2e-3
    r1: float = 1.0
    noise_strength: float = 0.01
    pool: int = 16384
    pool_first: int = 2048
    pool_share: float = 0.15
    save_minutes: float = 3.0

    def __post_init__(self) -> None:
        if self.resolution < 32 or self.resolution & (self.resolution - 1):
            raise ConfigError(f"resolution {self.resolution} is not allowed; it must be a power of two, at least 32")
        if self.stages is not None and len(self.stages) != len(self.resolutions):
            raise ConfigError(f"{len(self.stages)} stages do not fit the resolutions {self.resolutions}")
        if self.adversarial_from is not None and not 0 <= self.adversarial_from <= 1:
            raise ConfigError(f"adversarial_from {self.adversarial_from} is not allowed; give a part of the time")
        if self.minutes <= 0:
            raise ConfigError(f"minutes {self.minutes} is not allowed; it must be above 0")

    @property
    def resolutions(self) -> list[int]:
        """32, 64, ... up to the full size."""
        return [2**i for i in range(5, int(math.log2(self.resolution)) + 1)]

    def exponent(self, part: float) -> float:
        """Exponent of the importance weights when that part (0 to 1) of the time is over."""
        if self.settle:
            return self.flatten
        return 1 - (1 - self.flatten) * min(max((part - 0.35) / 0.25, 0.0), 1.0)

    @property
    def starts(self) -> tuple[float, ...]:
        """Part of the time at which each of `resolutions` starts."""
        if self.stages is not None:
            return self.stages
        if self.settle:
            return (0.0,) * len(self.resolutions)
        known = {1: (0.0,), 2: (0.0, 0.35), 3: (0.0, 0.20, 0.52), 4: (0.0, 0.12, 0.30, 0.60)}
        count = len(self.resolutions)
        return known.get(count) or tuple(0.65 * i / (count - 1) for i in range(count))

    def stage(self, part: float) -> int:
        """The resolution trained when that part (0 to 1) of the time is over."""
        return max(r for r, start in zip(self.resolutions, self.starts, strict=True) if part >= start)

    def energy(self, part: float) -> float:
        """Weight of the term for detail when that part (0 to 1) of the time is over."""
        return self.sharpen if self.settle or part > self.sharpen_from else 0.0

    def step_size(self, resolution: int, stage_step: int, part: float) -> float:
        """Adam's step, the ``stage_step``-th at that resolution, when that part (0 to 1) of the time is over."""
        size = self.lr * self.lr_growth ** self.resolutions.index(resolution)
        size *= min(1.0, (stage_step + 1) / self.warmup)
        if self.settle:
            return size / 15 * (0.5 + 0.5 * math.cos(math.pi * part))
        if part > 1 - self.decay:
            size *= 0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * (part - 1 + self.decay) / self.decay))
        return size

    def keep(self, pictures: int, count: int) -> float:
        """How much of the average stays in a step of ``count`` pictures, when so many have been seen before."""
        # Early weights are not worth averaging over long: the half-life grows with what was seen.
        return 0.5 ** (count / min(self.ema_pictures, 0.05 * (pictures + count) + 1))

    def is_adversarial(self, resolution: int, part: float) -> bool:
        """Whether the discriminator takes part in a step."""
        return self.adversarial_from is not None and part >= self.adversarial_from and resolution == self.resolution

    @property
    def discriminator_kwargs(self) -> dict[str, Any]:
        """Constructor arguments of the discriminator; as wide as the generator."""
        sizes = {"channel_base": self.channel_base, "channel_max": self.channel_max}
        return {"c_dim": 0, "img_resolution": self.resolution, "img_channels": 3, "architecture": "resnet", **sizes}

    def kwargs(self, scene: Scene) -> dict[str, Any]:
        """The generator's constructor arguments."""
        return {
            "z_dim": scene.z_dim,
            "c_dim": 0,
            "w_dim": self.w_dim,
            "img_resolution": self.resolution,
            "img_channels": 3,
            "mapping_kwargs": {"num_layers": self.mapping_layers, "lr_multiplier": 1.0},
            "channel_base": self.channel_base,
            "channel_max": self.channel_max,
            "architecture": "skip",
        }


def faster_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 where it makes a convolution's forward and backward pass faster, else float32. Measured, 0.2 s."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(8, 128, 32, 32, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
        x.requires_grad_(True)
        weight = torch.randn(128, 128, 3, 3, device=device, dtype=dtype, requires_grad=True)
        best = math.inf
        for _ in range(4):
            start = time.perf_counter()
            F.conv2d(x, weight, padding=1).float().sum().backward()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            best = min(best, time.perf_counter() - start)
        seconds[dtype] = best
    faster = min(seconds, key=lambda d: seconds[d])
    logger.info(
        "features in %s (float32 %.1f ms, bfloat16 %.1f ms)",
        str(faster).removeprefix("torch."),
        seconds[torch.float32] * 1e3,
        seconds[torch.bfloat16] * 1e3,
    )
    return faster


@dataclass
class Progress:
    """The progress of a training; saved with the weights."""

    seconds: float = 0.0
    steps: int = 0
    pictures: int = 0
    blocks: int = 0
    stage: int = 0
    stage_step: int = 0
    held_psnr: float = 0.0
    init: str = ""  # the model that it started from
    curve: list[tuple[float, float]] = field(default_factory=list)  # (minutes, loss)


class Trainer:
    """One training in one folder: ``checkpoint.pt``, ``samples.png``, ``curve.png``.

    Args:
        config: the settings; those of a resumed training must agree with its checkpoint's in what shapes the network.
        out: folder, created if missing.
        device: where to train.
        resume: go on from ``checkpoint.pt`` if there is one.
        init: a model file of this project to start from, of any scene: every tensor whose name and shape agree is
            taken over. Edges, fills and shading are much the same in every scene. A resumed training ignores it.

    Raises:
        ConfigError: the checkpoint is of another training, or ``init`` has no weights that fit.
    """

    def __init__(
        self, config: TrainConfig, out: Path, *, device: torch.device, resume: bool, init: Path | None = None
    ) -> None:
        self.config, self.out, self.device = config, out, device
        self.scene = find_scene(config.scene)
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(config.kwargs(self.scene)))
        self.progress = Progress()
        self._prepare()
        if init is not None:
            self._take_over(init)
        self.generator.to(device)
        self.average = copy.deepcopy(self.generator).requires_grad_(False).eval()
        self._parameters = [p for p in self.generator.parameters() if p.requires_grad]
        self.recorder = recorder_for(device)
        """Of a device on which steps are recorded; None: they are taken one operation at a time."""
        recordable = self.recorder is not None
        lr = torch.tensor(config.lr, device=device) if recordable else config.lr
        self.optimiser = torch.optim.Adam(self._parameters, lr=lr, betas=(0.9, 0.99), fused=True, capturable=recordable)
        # On a CPU one thread per part of the batch beats all threads on every operation: nobody waits for a core
        # that another program has taken, and small maps keep both cores busy.
        self.workers = 1 if device.type == "cuda" else max(1, min(os.cpu_count() or 1, config.batch // 4))
        if self.workers > 1:
            torch.set_num_threads(1)
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="train")
        self.dtype = faster_dtype(device)
        self.adversary: Adversary | None = None
        if config.adversarial_from is not None:
            self.adversary = Adversary(
                config.discriminator_kwargs,
                lr=config.adversarial_lr,
                gamma=config.r1,
                device=device,
                dtype=self.dtype,
                recordable=recordable,
            )
        if resume and self.checkpoint.is_file():
            self._restore()
        held = scene_noise(self.scene, HELD_SEED, 0, 64)
        self.held_z = torch.from_numpy(held)
        self.held = self.scene.render(self.scene.parameters(held), config.resolution).pictures
        self.rng = np.random.default_rng((config.seed, self.progress.steps))

    @property
    def checkpoint(self) -> Path:
        """The file that a resumed training starts from."""
        return self.out / "checkpoint.pt"

    def _prepare(self) -> None:
        with torch.no_grad():
            for r, block, _ in self.generator.synthesis.blocks():
                if r > 32:  # a new resolution starts by adding nothing, so growing does no harm
                    block.torgb.weight.zero_()
        for name, p in self.generator.named_parameters():
            if name.endswith("noise_strength"):
                p.requires_grad_(False).fill_(self.config.noise_strength)

    def _take_over(self, file: Path) -> None:
        try:
            given = load_file(file)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"cannot start from {file}: {error}; give a model of this project") from error
        own = self.generator.state_dict()
        given = {name.removeprefix("G_ema/"): tensor.float() for name, tensor in given.items()}
        fitting = {name: tensor for name, tensor in given.items() if name in own and tensor.shape == own[name].shape}
        if not any(name.endswith("weight") for name in fitting):
            raise ConfigError(f"no weight in {file} has the name and shape of one of this network; choose another file")
        self.generator.load_state_dict(own | fitting)
        self.progress.init = file.name  # not its path, which is private
        logger.info("took over %d of %d tensors from %s", len(fitting), len(own), file)

    def run(self) -> None:
        """Train until the time is up; saves from time to time and at the end."""
        limit = self.config.minutes * 60
        if self.recorder is not None:
            self._run_recorded(limit)
            self.save()
            return
        while self.progress.seconds < limit:
            resolution = self.config.stage(self.progress.seconds / limit)
            if resolution != self.progress.stage:
                self.progress.stage, self.progress.stage_step = resolution, 0
                logger.info("now training the %d px picture", resolution)
            with ScenePool(
                self.scene,
                resolution,
                capacity=self.config.pool,
                first=self.config.pool_first,
                seed=self.config.seed,
                share=self.config.pool_share,
                start_block=self.progress.blocks,
                device=self.device,
            ) as pool:
                self._run_stage(pool, resolution, limit)
        self.save()

    def _run_stage(self, pool: ScenePool, resolution: int, limit: float) -> None:
        p = self.progress
        running = weight = 0.0
        before = last_log = last_save = time.monotonic()
        logged = p.pictures
        while p.seconds < limit and self.config.stage(p.seconds / limit) == resolution:
            value, norm = self.step(pool, resolution, p.seconds / limit)
            running, weight = running * 0.98 + value * 0.02, weight * 0.98 + 0.02
            now = time.monotonic()
            p.seconds += now - before
            before = now
            p.blocks = pool.block
            if now - last_log >= 20:
                p.curve.append((p.seconds / 60, running / weight))
                logger.info(
                    "%5.1f min  %d px  step %d  %d pictures  %.0f/s  loss %.4f  gradient %.2f  scenes rendered %d",
                    p.seconds / 60,
                    resolution,
                    p.steps,
                    p.pictures,
                    (p.pictures - logged) / (now - last_log),
                    running / weight,
                    norm,
                    pool.rendered,
                )
                last_log, logged = now, p.pictures
            if now - last_save >= self.config.save_minutes * 60:
                self.save()
                last_save = time.monotonic()

    def _run_recorded(self, limit: float) -> None:
        """All stages on scenes of the full size, which stay on the device; the host reads the loss now and then."""
        config, p = self.config, self.progress
        with DevicePool(
            self.scene,
            config.resolution,
            capacity=config.pool,
            first=config.pool_first,
            seed=config.seed,
            device=self.device,
            start_block=p.blocks * 32 // BLOCK,
        ) as pool:
            steps = self.recorded_steps(pool)
            before = last_log = last_save = time.monotonic()
            logged = p.pictures
            while p.seconds < limit:
                value = self.recorded_step(steps, p.seconds / limit)
                if p.steps % 20 and self.device.type == "cuda":
                    continue
                read = float(value)  # waits for the device, so the time is that of the steps
                now = time.monotonic()
                p.seconds += now - before
                before = now
                p.blocks = pool.block * BLOCK // 32
                if now - last_log >= 20:
                    p.curve.append((p.seconds / 60, read))
                    rate = (p.pictures - logged) / (now - last_log)
                    logger.info(
                        "%5.1f min  %d px  step %d  %d pictures  %.0f/s  loss %.4f  scenes drawn %d",
                        *(p.seconds / 60, p.stage, p.steps, p.pictures, rate, read, pool.added),
                    )
                    last_log, logged = now, p.pictures
                if now - last_save >= config.save_minutes * 60:
                    with pool.quiet:
                        self.save()
                    last_save = before = time.monotonic()

    def recorded_steps(self, pool: DevicePool) -> RecordedSteps:
        """Steps on the scenes of that pool; recorded as they are first taken."""
        config = self.config
        return RecordedSteps(
            generator=self.generator,
            average=self.average,
            optimiser=self.optimiser,
            adversary=self.adversary,
            pool=pool,
            batch=config.batch,
            outline=config.outline,
            slopes=config.slopes,
            adversarial=config.adversarial,
            clip=config.clip,
            dtype=self.dtype,
            recorder=self.recorder,
        )

    def recorded_step(self, steps: RecordedSteps, part: float) -> Float[Tensor, ""]:
        """One step when that part (0 to 1) of the time is over; the loss, which the next one overwrites."""
        config, p = self.config, self.progress
        resolution = config.stage(part)
        if resolution != p.stage:
            p.stage, p.stage_step = resolution, 0
            logger.info("now training the %d px picture", resolution)
        value = steps.step(
            resolution,
            lr=config.step_size(resolution, p.stage_step, part),
            exponent=config.exponent(part),
            energy=config.energy(part),
            keep=config.keep(p.pictures, config.batch),
            adversarial=config.is_adversarial(resolution, part),
        )
        p.steps += 1
        p.stage_step += 1
        p.pictures += config.batch
        return value

    def step(self, pool: ScenePool, resolution: int, part: float) -> tuple[float, float]:
        """One optimiser step on scenes from the pool.

        Args:
            resolution: which skip picture to train; that of the pool.
            part: how much of the time is over, 0 to 1; decides the step size and the sharpening.

        Returns:
            The loss and the gradient's norm before clipping.
        """
        config, p = self.config, self.progress
        for group in self.optimiser.param_groups:
            group["lr"] = config.step_size(resolution, p.stage_step, part)
        count = max(1, config.batch // self.workers)
        shards = [pool.draw(count, self.rng) for _ in range(self.workers)]
        fresh: list[NDArray[np.float32]] | list[None] = [None] * self.workers
        if config.is_adversarial(resolution, part):
            # Noise that no pair was made for: the discriminator should judge what users will see.
            fresh = [self.rng.standard_normal((count, self.scene.z_dim), np.float32) for _ in range(self.workers)]
            self._teach_adversary(fresh, [shard.pictures for shard in shards])
        results = list(self._executor.map(lambda s, z: self._gradients(s, z, resolution, part), shards, fresh))
        for i, q in enumerate(self._parameters):
            # None for the blocks beyond the resolution being trained.
            gradients = [gradient for _, _, all_of in results if (gradient := all_of[i]) is not None]
            q.grad = torch.stack(gradients).mean(0) if gradients else None
        norm = torch.nn.utils.clip_grad_norm_([q for q in self._parameters if q.grad is not None], config.clip)
        self.optimiser.step()
        p.steps += 1
        p.stage_step += 1
        p.pictures += count * self.workers
        with torch.no_grad():
            for _, w, _ in results:
                self.generator.mapping.w_avg.lerp_(w, 0.002)
            keep = config.keep(p.pictures - count * self.workers, count * self.workers)
            lerp_all(list(self.average.parameters()), list(self.generator.parameters()), 1 - keep)
            self.average.mapping.w_avg.copy_(self.generator.mapping.w_avg)
        return sum(value for value, _, _ in results) / len(results), float(norm)

    def _teach_adversary(self, fresh: Sequence[NDArray[np.float32]], real: Sequence[NDArray[np.uint8]]) -> None:
        """One step of the discriminator on generated pictures of that noise, and on renderings."""
        assert self.adversary is not None
        with torch.no_grad():
            made = self._draw(np.concatenate(fresh), self.config.resolution)
        self.adversary.learn(made, self._pictures(np.concatenate(real)))

    def _draw(self, z: NDArray[np.float32], resolution: int) -> Float[Tensor, "batch 3 size size"]:
        """Pictures of the generator in training."""
        ws = self.generator.mapping(torch.from_numpy(z).to(self.device))
        return synthesise(self.generator, ws, resolution, self.dtype)

    def _pictures(self, pictures: NDArray[np.uint8]) -> Float[Tensor, "batch 3 size size"]:
        """Renderings as the generator draws them: float32 in [-1, 1]."""
        return torch.from_numpy(pictures).to(self.device).float() / 127.5 - 1

    def _gradients(
        self,
        shard: Drawn,
        fresh: NDArray[np.float32] | None,
        resolution: int,
        part: float,
    ) -> tuple[float, Tensor, Sequence[Tensor | None]]:
        """Loss, mean latent ``[w_dim]`` and gradients to all parameters for one part of a batch.

        Args:
            shard: scenes of the pool.
            fresh: noise for the adversarial part; None: without it.
        """
        target = self._pictures(shard.pictures)
        weight = pixel_weights(
            torch.from_numpy(shard.importance).to(self.device),
            torch.from_numpy(shard.outlines).to(self.device),
            exponent=self.config.exponent(part),
            extra=self.config.outline,
        )
        energy = self.config.energy(part)
        ws = self.generator.mapping(torch.from_numpy(shard.z).to(self.device))
        image = synthesise(self.generator, ws, resolution, self.dtype)
        value = loss(image, target, weight, energy, self.config.slopes)
        if fresh is not None and self.adversary is not None:
            value = value + self.config.adversarial * self.adversary.objection(self._draw(fresh, resolution))
        gradients = torch.autograd.grad(value, self._parameters, allow_unused=True)
        return float(value.detach()), ws[:, 0].detach().mean(0), gradients

    @torch.no_grad()
    def held_pictures(self, resolution: int) -> tuple[Tensor, Tensor]:
        """Pictures ``[64, 3, resolution, resolution]`` of the averaged generator for held noise, and the right ones."""
        images = []
        for z in self.held_z.to(self.device).split(16):
            images.append(synthesise(self.average, self.average.mapping(z), resolution, self.dtype).cpu())
        right = torch.from_numpy(self.held).float() / 127.5 - 1
        return torch.cat(images), F.avg_pool2d(right, self.config.resolution // resolution)

    def save(self) -> None:
        """Write checkpoint, samples and loss curve, each as a whole or not at all."""
        p = self.progress
        made, right = self.held_pictures(p.stage)
        p.held_psnr = psnr(made, right)
        logger.info("%5.1f min  held pairs at %d px: %.2f dB", p.seconds / 60, p.stage, p.held_psnr)
        state = {
            "config": asdict(self.config),
            "progress": asdict(p),
            "generator": self.generator.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": None if self.adversary is None else self.adversary.state_dict(),
        }
        with replacing(self.checkpoint) as temporary:
            torch.save(state, temporary)
        sheet(made[:16], right[:16], 128).save(self.out / "samples.png")
        draw_curve(p.curve).save(self.out / "curve.png")

    def _restore(self) -> None:
        state = torch.load(self.checkpoint, map_location=self.device, weights_only=True)
        if state["config"]["scene"] != self.config.scene or state["config"]["resolution"] != self.config.resolution:
            raise ConfigError(f"{self.checkpoint} is a training of another scene or size; choose another --out")
        self.generator.load_state_dict(state["generator"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.progress = Progress(**state["progress"])
        # A training may go on with a discriminator that it began without.
        if self.adversary is not None and state.get("adversary") is not None:
            self.adversary.load_state_dict(state["adversary"])
        logger.info("resumed after %.1f min and %d pictures", self.progress.seconds / 60, self.progress.pictures)


def sheet(made: Tensor, right: Tensor, size: int) -> Image.Image:
    """Rows of eight: generated above, rendered below."""
    rows = []
    for i in range(0, len(made), 8):
        for part in (made[i : i + 8], right[i : i + 8]):
            part = F.interpolate(part, size=(size, size), mode="area") if part.shape[-1] != size else part
            rows.append(torch.cat(list(part), 2))
    grid = ((torch.cat(rows, 1).clamp(-1, 1) + 1) * 127.5).round().byte()
    return Image.fromarray(grid.permute(1, 2, 0).contiguous().numpy())


def draw_curve(curve: Sequence[tuple[float, float]], width: int = 720, height: int = 320) -> Image.Image:
    """The loss over minutes, on a logarithmic scale."""
    image = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(image)
    if len(curve) > 1:
        x = np.array([c[0] for c in curve])
        y = np.log(np.array([c[1] for c in curve]))
        px = 50 + (x - x.min()) / max(np.ptp(x), 1e-9) * (width - 70)
        py = 20 + (y.max() - y) / max(np.ptp(y), 1e-9) * (height - 60)
        pen.line(list(zip(px.tolist(), py.tolist(), strict=True)), fill=(30, 90, 200), width=2)
        pen.text((4, 14), f"{math.exp(y.max()):.3f}", fill="black")
        pen.text((4, height - 46), f"{math.exp(y.min()):.3f}", fill="black")
        pen.text((50, height - 20), f"{x.min():.0f} to {x.max():.0f} minutes, logarithmic loss", fill="black")
    return image


def export(checkpoint: Path, target: Path) -> dict[str, Any]:
    """Write the averaged generator of a training checkpoint as a model file.

    Tensors are float16 and named ``G_ema/...``; the metadata says what they are and where they come from.
    The average latent is measured over 20,000 samples first. A discriminator, where the training had one, becomes a
    file of its own beside it, ``<name>-discriminator.safetensors``.

    Returns:
        The ``training`` part of the metadata.
    """
    if not checkpoint.is_file():
        raise ConfigError(f"there is no {checkpoint}; train first, or name the training's folder with --out")
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)
    config = TrainConfig(**state["config"])
    scene, progress = find_scene(config.scene), Progress(**state["progress"])
    generator = StyleGAN2Generator(StyleGAN2Config.from_mapping(config.kwargs(scene)))
    generator.load_state_dict(state["average"])
    generator.requires_grad_(False)
    noise = torch.randn(20_000, scene.z_dim, generator=torch.Generator().manual_seed(0))
    generator.mapping.w_avg.copy_(generator.mapping(noise)[:, 0].mean(0))
    # What a user gets: float16 weights, computed in float32.
    tensors = {f"G_ema/{k}": v.half().contiguous() for k, v in generator.state_dict().items()}
    generator.load_state_dict({k.removeprefix("G_ema/"): v.float() for k, v in tensors.items()})
    held = scene_noise(scene, HELD_SEED, 1, 128)
    right = torch.from_numpy(scene.render(scene.parameters(held), config.resolution).pictures).float() / 127.5 - 1
    made = torch.cat([generator.synthesis(generator.mapping(z)) for z in torch.from_numpy(held).split(16)])
    training = {
        "command": _command(config, progress.init),
        "minutes": round(progress.seconds / 60, 1),
        "pictures_seen": progress.pictures,
        "scenes_rendered": progress.blocks * 32,
        "psnr_held_db": round(psnr(made, right), 2),
    }
    metadata = {
        "family": "stylegan2",
        "name": config.scene,
        "kwargs": json.dumps(config.kwargs(scene)),
        "licence": "Apache-2.0",
        "source": f"trained on the procedural scene '{config.scene}' of this project; no photograph was used",
        "training": json.dumps(training),
    }
    with replacing(target) as temporary:
        save_file(tensors, temporary, metadata=metadata)
        temporary.chmod(0o644)  # the writer creates it readable by its owner only
    logger.info("wrote %s (%.1f MB): %s", target, target.stat().st_size / 1e6, training)
    sheet(made[:16], right[:16], config.resolution).save(checkpoint.with_name("export.jpg"), quality=88)
    if state.get("adversary") is not None:
        beside = target.with_name(f"{target.stem}-discriminator.safetensors")
        _export_discriminator(state["adversary"], beside, metadata)
    return training


def _command(config: TrainConfig, init: str) -> str:
    """What trains such weights again."""
    options: dict[str, object] = {"resolution": config.resolution, "minutes": f"{config.minutes:g}"}
    options |= {"seed": config.seed, "batch": config.batch}
    if config.adversarial_from is not None:
        options["adversarial-from"] = config.adversarial_from
    if init:
        options["init"] = init
    words = [f"--{name} {value}" for name, value in options.items()] + ["--settle"] * config.settle
    return " ".join([f"python -m draggan.scenes.train {config.scene}", *words])


def _export_discriminator(state: dict[str, Any], target: Path, metadata: dict[str, str]) -> None:
    """The discriminator of a checkpoint as a model file of its own, float16, tensors named ``D/...``."""
    tensors = {f"D/{k}": v.half().contiguous() for k, v in state["discriminator"].items()}
    networks = {"D": {"family": "stylegan2", "kwargs": state["kwargs"]}}
    about = {key: metadata[key] for key in ("name", "licence", "source", "training")}
    with replacing(target) as temporary:
        save_file(tensors, temporary, metadata={**about, "networks": json.dumps(networks)})
        temporary.chmod(0o644)
    logger.info("wrote %s (%.1f MB)", target, target.stat().st_size / 1e6)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m draggan.scenes.train", description=__doc__.split("\n")[0])
    parser.add_argument("scene", help="which scene to learn, e.g. cat")
    parser.add_argument("--resolution", type=int, default=128, help="picture size in pixels")
    parser.add_argument("--minutes", type=float, default=100.0, help="training time in all")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ...")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--adversarial-from",
        type=float,
        help="part of the time, 0 to 1, from which a discriminator takes part (default: 0.6 on a GPU, never on a CPU)",
    )
    parser.add_argument("--batch", type=int, help="pictures a step (default: 64 on a GPU, 16 on a CPU)")
    parser.add_argument(
        "--settle", action="store_true", help="with --init of trained weights: small steps at full size, to the end"
    )
    parser.add_argument("--resume", action="store_true", help="go on where the folder's checkpoint ended")
    parser.add_argument("--init", type=Path, help="start from this model's weights, e.g. checkpoints/cat.safetensors")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoint, samples and log")
    parser.add_argument("--export", type=Path, help="only write the folder's checkpoint as this .safetensors file")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        if options.export is not None:
            export(options.out / "checkpoint.pt", options.export)
            return 0
        device = choose_device(options.device)
        adversarial_from = options.adversarial_from
        if adversarial_from is None and device.type == "cuda":
            adversarial_from = 0.6
        # A GPU has time for larger batches, and room for what they are drawn from.
        larger: dict[str, Any] = {"batch": 64, "pool": 12288, "pool_first": 3072} if device.type == "cuda" else {}
        config = TrainConfig(
            scene=options.scene,
            resolution=options.resolution,
            minutes=options.minutes,
            seed=options.seed,
            adversarial_from=adversarial_from,
            settle=options.settle,
            **(larger | ({} if options.batch is None else {"batch": options.batch})),
        )
        if device.type == "cuda":
            # Their second derivative, which the penalty needs, is many times as fast.
            library.load_all()
        trainer = Trainer(config, options.out, device=device, resume=options.resume, init=options.init)
        trainer.run()
    except DragGANError as error:
        logger.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
