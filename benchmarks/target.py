"""From the start of a drag to its arrival at 512 px, against the published procedure: steps times seconds a step.

`step` times steps on networks with random weights, which cannot be dragged; `solvers` and `drags` count steps on the
built-in cat, which has 256 px. Here the cat is widened to the published 512 px layout (`widen.py`: the same pictures,
upsampled; 512 channels up to 64 px, 256 on the map that is dragged), with the features of its own quarter, 64 x 64,
carried to the quarter that a 512 px network is dragged on. So whole drags can be timed on the published arithmetic.

The drags are those of `drags` (mouth, ear, nose), scaled to 512 px. A drag begins with its construction and ends when
the handle is within 1 px of its target by its own tracker. Every procedure runs on the same network, starts and points;
both Adam procedures take the step size that suits this model, which is five times the published code's.

The published procedure takes minutes for one drag, so it runs to its end on the shortest only, our runs being repeated
in between, or on none. For the others its time is the steps that our Adam took in float32, the same mathematics, times
the median of its steps timed beside our runs of the same drag.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks import machine
from benchmarks.drags import SIZE, drags
from benchmarks.reference import ReferenceDrag, ReferenceSynthesis
from benchmarks.timing import publish, table
from benchmarks.widen import widen
from draggan import load_generator, suggested_config
from draggan.config import DragConfig
from draggan.drag import Drag
from draggan.drag.latent_statistics import latent_statistics
from draggan.generators.base import Generator
from draggan.generators.stylegan2 import StyleGAN2Generator

__all__ = ["main"]

OURS = (("adam", "float32"), ("adam", "bfloat16"), ("gauss-newton", "float32"), ("gauss-newton", "bfloat16"))


@dataclass(frozen=True)
class Run:
    """One drag by one procedure.

    Attributes:
        steps: changes of the latent.
        seconds, cpu: wall clock, and processor seconds of the process.
    """

    arrived: bool
    steps: int
    seconds: float
    cpu: float


@dataclass(frozen=True)
class Case:
    """A drag and its runs.

    Attributes:
        ours: by solver and precision, a run for each time it was done.
        sampled: wall clock and processor seconds of single steps of the published procedure.
        whole: the published procedure run to its end.
    """

    name: str
    ws: Tensor
    handle: np.ndarray
    target: np.ndarray
    ours: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    sampled: list[tuple[float, float]] = field(default_factory=list)
    whole: list[Run] = field(default_factory=list)


class EndingDrag(ReferenceDrag):
    """The published procedure, which ends as ours does: after tracking, when the handle is within the distance."""

    stop_distance = 1.0

    def advance(self) -> bool:
        """One step; True: there was none to take, the drag has arrived."""
        self.image, features = self._look()
        self.track(features)
        if bool(((self.handles - self.targets).norm(dim=-1) <= self.stop_distance).all()):
            return True
        self.optimiser.zero_grad()
        self.loss(features).backward()
        self.optimiser.step()
        return False


def clock() -> tuple[float, float]:
    """Wall clock and processor seconds, once the device has done what it was asked."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def ours(generator: Generator, case: Case, config: DragConfig) -> Run:
    """A whole drag."""
    seconds, cpu = clock()
    *_, last = Drag(generator, case.ws, [case.handle], [case.target], config=config)
    after = clock()
    return Run(last.outcome == "arrived", last.index, after[0] - seconds, after[1] - cpu)


def whole_reference(
    drag: Callable[[], EndingDrag], between: Sequence[Callable[[], object]], most: int, limit: float
) -> Run:
    """The published procedure to its end, or to a number of steps or seconds.

    Args:
        between: other runs, one after every tenth of its steps, the rest at the end; not part of its time.
    """
    waiting = list(between)
    begun = clock()
    running = drag()
    seconds, cpu, steps, arrived = *(b - a for a, b in zip(begun, clock(), strict=True)), 0, False
    while steps < most and seconds < limit and not arrived:
        if waiting and steps % 10 == 5:
            waiting.pop(0)()
        begun = clock()
        arrived = running.advance()
        after = clock()
        seconds, cpu, steps = seconds + after[0] - begun[0], cpu + after[1] - begun[1], steps + (not arrived)
    for run in waiting:
        run()
    return Run(arrived, steps, seconds, cpu)


def sample(drag: EndingDrag, count: int) -> list[tuple[float, float]]:
    """Single steps of the published procedure."""
    found = []
    for _ in range(count):
        before = clock()
        drag.advance()
        after = clock()
        found.append((after[0] - before[0], after[1] - before[1]))
    return found


def cases(generator: Generator, seeds: Sequence[int], names: Sequence[str]) -> list[Case]:
    """The fixed drags of these seeds, on whole pixels of this network's pictures."""
    scale, found = generator.image_size[0] / SIZE, []
    for seed in seeds:
        ws = generator.sample(seed)
        for name, points in drags(seed).items():
            if name in names:
                # A pixel's centre is half a pixel from its corner in pictures of every size.
                handle, target = (((np.array(p) + 0.5) * scale - 0.5).round() for p in points)
                found.append(Case(f"{name}, seed {seed}", ws, handle, target))
    return found


def network(quick: bool, device: str) -> StyleGAN2Generator:
    """The cat of the published 512 px layout; for a try one of 256 px with twice the cat's channels."""
    cat = load_generator("cat", device)
    assert isinstance(cat, StyleGAN2Generator)
    if quick:
        return widen(cat, img_resolution=256, channel_base=8192, channel_max=256, w_dim=256)
    return widen(cat, carry=cat.default_level)


def main(argv: Sequence[str] = ()) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks target", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller network, one drag, two steps of the reference")
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="default: 0 to 3")
    parser.add_argument("--names", nargs="+", default=("mouth", "ear", "nose"), choices=("mouth", "ear", "nose"))
    parser.add_argument("--whole", type=int, default=1, help="drags that the published procedure runs to their end")
    parser.add_argument("--samples", type=int, default=1, help="of its steps timed beside each drag")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds for each of its whole drags")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    machine.add_options(parser)
    args = parser.parse_args(argv)
    here = machine.prepare(args)
    generator = network(args.quick, args.device)
    synthesis = ReferenceSynthesis(generator).to(args.device)
    level = generator.default_level
    configs = {key: suggested_config("cat", level=level, solver=key[0], precision=key[1]) for key in OURS}
    usual = configs["adam", "float32"]
    seeds = args.seeds if args.seeds is not None else range(1 if args.quick else 4)
    found = cases(generator, seeds, args.names[:1] if args.quick else args.names)

    def reference(case: Case) -> EndingDrag:
        return EndingDrag(
            synthesis,
            case.ws,
            case.handle[None],
            case.target[None],
            level=level,
            step_size=usual.step_size,
            free_rows=usual.free_rows,
            # Below 512 px ours have floors, which the published code has not: 2 and 3 px of the picture.
            r1=max(usual.r1, 2 * 512 / generator.image_size[0]),
            r2=max(usual.r2, 3 * 512 / generator.image_size[0]),
        )

    def again(case: Case, key: tuple[str, str]) -> None:
        case.ours.setdefault(key, []).append(ours(generator, case, configs[key]))

    # Once per model: the statistics of its latents, and weights in the order that each precision wants.
    latent_statistics(generator)
    for config in configs.values():
        ours(generator, found[0], replace(config, max_steps=2))
    sample(reference(found[0]), 1)
    for case in found:
        for key in OURS:
            again(case, key)
        case.sampled.extend(sample(reference(case), args.samples))
        steps = ", ".join(f"{solver} {precision} {r[0].steps}" for (solver, precision), r in case.ours.items())
        print(f"{case.name}: {steps}; reference {case.sampled[-1][0]:.1f} s a step", flush=True)
    shortest = sorted(found, key=lambda c: c.ours["adam", "float32"][0].steps)
    for case in shortest[: args.whole]:
        between: list[Callable[[], object]] = [functools.partial(again, case, key) for key in OURS]
        most = 2 if args.quick else usual.max_steps
        case.whole.append(whole_reference(functools.partial(reference, case), between, most, args.limit))
        print(f"{case.name}: {case.whole[-1]}", flush=True)
    text = report(found, generator, here, argv)
    publish(text, args.out)
    return 0


def report(found: list[Case], generator: Generator, here: machine.Machine, argv: Sequence[str]) -> str:
    """The tables as Markdown."""
    # What the published procedure takes, estimated: the steps of the same mathematics times its own seconds a step.
    steps = np.array([np.mean([r.steps for r in c.ours["adam", "float32"]]) for c in found])
    step = np.array([np.median(c.sampled, 0) for c in found])
    estimated = steps @ step
    slow: list[object] = ["published, estimated", "-", _steps(steps), *(f"{s:.2f}" for s in estimated / steps.sum())]
    slow += [*(f"{s / len(found):.0f}" for s in estimated), "1", "1"]
    rows = [slow]
    for key in OURS:
        first = [c.ours[key][0] for c in found]
        taken = np.array([r.steps for r in first])
        wall, cpu = (np.array([getattr(r, which) for r in first]) for which in ("seconds", "cpu"))
        row: list[object] = [", ".join(key), f"{sum(r.arrived for r in first)} of {len(first)}", _steps(taken)]
        row += [f"{np.sum(wall) / taken.sum():.3f}", f"{np.sum(cpu) / taken.sum():.3f}"]
        row += [f"{np.mean(wall):.2f}", f"{np.mean(cpu):.2f}"]
        row += [f"{s / own.sum():.0f}" for s, own in zip(estimated, (wall, cpu), strict=True)]
        rows.append(row)
    columns = ["procedure", "arrived", "steps, mean (least to most)", "s a step", "processor s a step", "s to target"]
    columns += ["processor s to target", "times sooner", "times less processor time"]
    height, width = generator.image_size
    lines = [
        f"# From start to arrival at {height} px",
        "",
        f"`{' '.join(['python -m benchmarks target', *argv])}`; see benchmarks/target.py for what is dragged and how",
        "it is measured, and benchmarks/widen.py for the network, the built-in cat made wider.",
        "",
        f"{here.markdown()}, at the end {os.getloadavg()[0]:.1f}.",
        "",
        "With a load above the number of cores other work shared them: wall-clock times are upper bounds then, while",
        "ratios, of runs by turns in one process, and processor seconds hold.",
        "",
        f"Drags of one handle, {width} x {height} px, on {generator.default_level}: {len(found)}. Seconds from start",
        "to arrival are means of all drags. The published procedure's are estimated: for each drag, the steps that our",
        f"Adam took in float32 times the median of {len(found[0].sampled)} of its steps timed beside our runs.",
        "",
        table(columns, rows),
    ]
    ended = [c for c in found if c.whole]
    if ended:
        lines += ["## The published procedure to its end, our runs repeated in between", "", _whole(ended), ""]
    lines += ["## Steps of every drag", "", _every(found)]
    return "\n".join(lines)


def _steps(steps: np.ndarray) -> str:
    return f"{steps.mean():.1f} ({steps.min():.0f} to {steps.max():.0f})"


def _whole(ended: list[Case]) -> str:
    rows: list[list[object]] = []
    for case in ended:
        slow = case.whole[0]
        for name, run in [("published", slow), *((", ".join(key), case.ours[key][-1]) for key in OURS)]:
            row: list[object] = [case.name, name, "yes" if run.arrived else "no", run.steps]
            row += [f"{run.seconds:.2f}", f"{run.cpu:.2f}"]
            # One that was broken off would have taken longer.
            more = "" if slow.arrived or run is slow else "> "
            row += [f"{more}{slow.seconds / run.seconds:.0f}", f"{more}{slow.cpu / run.cpu:.0f}"]
            rows.append(row)
    columns = ["drag", "procedure", "arrived", "steps", "s to target", "processor s to target", "times sooner"]
    return table([*columns, "times less processor time"], rows)


def _every(found: list[Case]) -> str:
    rows: list[list[object]] = []
    for case in found:
        row: list[object] = [case.name, f"{np.linalg.norm(case.target - case.handle):.0f}"]
        for key in OURS:
            first = case.ours[key][0]
            row.append(f"{first.steps}{'' if first.arrived else ' (did not arrive)'}, {first.seconds:.2f} s")
        rows.append(row)
    return table(["drag", "asked px", *(", ".join(key) for key in OURS)], rows)
