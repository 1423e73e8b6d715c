"""What is measured. A protocol is a numbered sequence of tasks, the same for every solver, and figures of each.

Task ``i`` depends on the subject, the protocol's settings and ``i`` alone, so that rows of a table share their cases
and a measurement can be extended later. A protocol takes any `DragConfig` and never looks inside, but for the limits
of steps that belong to a published procedure; and any `Method`, of which it asks nothing but steps.

For every drag it also reports how far it went in the distribution of latents: root mean square of whitened coordinates
(`Whitening`), over all rows, before, after and between.
"""

from __future__ import annotations

import abc
import time
import typing
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag import Drag, DragStep
from draggan.errors import ConfigError
from draggan.evaluation.instructions import Instruction
from draggan.evaluation.similarity import gradient_distance, mean_square, ms_ssim, psnr, sharpness
from draggan.evaluation.subject import Subject
from draggan.evaluation.witnesses import along_the_line, distinct_point, most_resembling
from draggan.generators.base import Generator

__all__ = [
    "ALL",
    "DRAG",
    "TRULY",
    "Case",
    "Column",
    "Cycle",
    "Dragged",
    "Instructions",
    "Landmarks",
    "Mask",
    "Method",
    "Pairs",
    "Protocol",
    "Pulls",
    "PullsApart",
    "Quality",
    "Reconstruction",
    "Roundtrip",
    "Task",
    "around",
    "check",
    "drag",
    "possible",
]

ALL = 0
"""As a number of points: every landmark."""

Picture = Float[Tensor, "1 3 height width"]
WS = Float[Tensor, "1 num_ws w_dim"]
Points = Float[np.ndarray, "n 2"]


@dataclass(frozen=True, kw_only=True)
class Column:
    """A figure of every case, averaged in tables.

    Attributes:
        key: in `Case.figures`.
        title: for people.
        unit: likewise; may be empty.
        digits: after the point.
        factor: values are shown times this.
        share: values are 0 or 1.
        quantile: shown in place of the mean.
        more_is_better: of quality, in general.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 2
    factor: float = 1.0
    share: bool = False
    quantile: float | None = None
    more_is_better: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """A picture to be dragged.

    Attributes:
        seed: of the picture.
        ws: its latent.
        handles, targets: image pixels.
        z, z_other: noise of the picture, and of the one that gives the targets.
        names: of the landmarks dragged; empty for other points.
        mask: True = may change; None: everything.
        truth: what the result should look like, where that is known.
        other: a picture that has nothing to do with the drag's start, for comparison of distributions.
        found: all landmarks of the picture.
    """

    seed: int
    ws: WS
    handles: Points
    targets: Points
    names: tuple[str, ...] = ()
    z_other: Float[Tensor, "1 z_dim"] | None = None
    mask: Bool[np.ndarray, "height width"] | None = None
    truth: Picture | None = None
    other: Picture | None = None
    found: Float[np.ndarray, "landmark 2"] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Dragged:
    """How a drag went.

    Attributes:
        ws: where it ended.
        handles: as tracked there.
        distances: pixels left, by the tracker.
        lost: which handles it says nothing of.
        steps, outcome: as in `DragStep`.
        seconds, cpu: wall clock and processor time from before the construction to the last step.
    """

    ws: WS
    handles: Points
    distances: Float[np.ndarray, "n"]
    lost: Bool[np.ndarray, "n"]
    steps: int
    outcome: str
    seconds: float
    cpu: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Case:
    """The result of one task.

    Attributes:
        seed: of the picture.
        figures: numbers by column key; None for what could not be measured.
        outcome: of the drag; a reason in words if there was none.
        shift: by how much the first rows of the latent changed, ``[rows, w_dim]``; None where nothing was dragged.
        features: landmark features by "before", "after" and "other"; empty without a landmark network.
    """

    seed: int
    figures: dict[str, float | None]
    outcome: str = ""
    shift: Float[np.ndarray, "rows w_dim"] | None = None
    features: dict[str, Float[np.ndarray, "d"]] = field(default_factory=dict)


@typing.runtime_checkable
class Begin(typing.Protocol):
    """Begins a drag that ends by itself, as `Drag` does."""

    def __call__(
        self,
        generator: Generator,
        ws: Tensor,
        handles: np.ndarray,
        targets: np.ndarray,
        mask: np.ndarray | None,
        config: DragConfig,
        /,
    ) -> Iterator[DragStep]: ...


@dataclass(frozen=True, kw_only=True)
class Method:
    """A way to drag.

    Attributes:
        key: its name in files of results, which keep cases dragged by different methods apart; to be changed whenever
            the same settings lead elsewhere. Empty for the package's own, which is measured as it is.
        begin: begins a drag.
    """

    key: str = ""
    begin: Begin = Drag


DRAG = Method()
"""The package's own."""


def drag(
    subject: Subject,
    ws: WS,
    handles: Points,
    targets: Points,
    mask: Bool[np.ndarray, "height width"] | None,
    config: DragConfig,
    method: Method = DRAG,
) -> Dragged:
    """One whole drag, timed."""
    clock, cpu = time.perf_counter(), time.process_time()
    step = deque(method.begin(subject.generator, ws, handles, targets, mask, config), maxlen=1).pop()
    if step.ws.device.type == "cuda":
        torch.cuda.synchronize()
    return Dragged(
        ws=step.ws,
        handles=step.handles,
        distances=step.distances,
        lost=step.lost,
        steps=step.index,
        outcome=step.outcome or "stopped",
        seconds=time.perf_counter() - clock,
        cpu=time.process_time() - cpu,
    )


def around(handle: Sequence[float], target: Sequence[float], size: tuple[int, int], margin: float) -> np.ndarray:
    """bool ``[height, width]``: everything up to ``margin`` pixels from the handle's way to its target."""
    y, x = np.mgrid[: size[0], : size[1]]
    p, t = np.array(handle, dtype=np.float64), np.array(target, dtype=np.float64)
    along = t - p
    s = (((x - p[0]) * along[0] + (y - p[1]) * along[1]) / max(float(along @ along), 1e-9)).clip(0, 1)
    return np.hypot(x - p[0] - s * along[0], y - p[1] - s * along[1]) <= margin


_DRAG_COLUMNS: tuple[Column, ...] = (
    Column(key="arrived", title="arrived", unit="%", digits=0, factor=100, share=True),
    Column(key="steps", title="steps", digits=0),
    Column(key="seconds", title="time", unit="s", digits=2),
    Column(key="cpu", title="processor time", unit="s", digits=2),
    Column(key="latent_before", title="latent distance from the mean, before", digits=2),
    Column(key="latent_after", title="latent distance from the mean, after", digits=2),
    Column(key="latent_moved", title="latent distance moved", digits=2),
)


class Protocol(abc.ABC):
    """One way to measure.

    Attributes:
        name: on the command line.
        columns: figures of every case.
        main: key of the figure by which cases are called best and worst.
        first_seed: task ``i`` takes seeds from ``first_seed`` on.
        returns: drags end where they began.
        finds: the landmark network is used.
    """

    name: str
    columns: tuple[Column, ...]
    main: str
    first_seed: int
    returns = False
    finds = True

    @property
    def title(self) -> str:
        """For tables: "landmarks, 5 points"."""
        return self.name

    def missing(self, subject: Subject) -> str:
        """Why this subject cannot be measured; empty if it can."""
        return ""

    @abc.abstractmethod
    def settings(self) -> dict[str, Any]:
        """What distinguishes this protocol from others of the same name."""

    @abc.abstractmethod
    def task(self, subject: Subject, index: int) -> Task | str:
        """The task of that number, or a text that says why there is none."""

    @abc.abstractmethod
    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """Do the task and look at the result."""

    def limited(self, config: DragConfig) -> DragConfig:
        """The settings with which this protocol really drags."""
        return config

    def count(self) -> int | None:
        """How many tasks there are; None for any number."""
        return None

    def case(self, subject: Subject, config: DragConfig, index: int, method: Method = DRAG) -> Case:
        """`task` and `measure`."""
        task = self.task(subject, index)
        if isinstance(task, str):
            return Case(seed=self.first_seed + index, figures={}, outcome=task)
        return self.measure(subject, task, self.limited(config), method)

    def random(self, index: int) -> np.random.Generator:
        """The random numbers of task ``index``, the same every time."""
        return np.random.default_rng([self.first_seed, index])


def _counted(name: str, points: int) -> str:
    return f"{name}, {'all landmarks' if points == ALL else f'{points} points' if points > 1 else '1 point'}"


def _seed_pair(protocol: Protocol, subject: Subject, index: int) -> tuple[int, Tensor, Tensor]:
    """Two pictures that no other task has: the first one's seed, and the noise of both."""
    seed = protocol.first_seed + 2 * index
    return seed, subject.noise(seed), subject.noise(seed + 1)


def _drag_figures(subject: Subject, before: WS, dragged: Dragged) -> dict[str, float | None]:
    """The figures of `_DRAG_COLUMNS`."""
    a, b = (ws[0].double().cpu().numpy() for ws in (before, dragged.ws))
    return {
        "arrived": float(dragged.outcome == "arrived"),
        "steps": float(dragged.steps),
        "seconds": dragged.seconds,
        "cpu": dragged.cpu,
        "tracked": float(dragged.distances.mean()),
        "latent_before": subject.whitening.distance(a),
        "latent_after": subject.whitening.distance(b),
        "latent_moved": subject.whitening.between(a, b),
    }


def _shift(before: WS, after: WS) -> Float[np.ndarray, "rows w_dim"]:
    """The rows up to the last that changed."""
    change = (after - before)[0].cpu().numpy()
    changed = np.flatnonzero(np.abs(change).max(1))
    return change[: changed[-1] + 1 if len(changed) else 0]


def _features(subject: Subject, **pictures: Picture | None) -> dict[str, np.ndarray]:
    found = {name: subject.features(picture) for name, picture in pictures.items() if picture is not None}
    return {name: features for name, features in found.items() if features is not None}


def _away(points: Points, targets: Points) -> float:
    """Mean distance in pixels."""
    return float(np.linalg.norm(points - targets, axis=-1).mean())


def _random_move(
    subject: Subject, random: np.random.Generator, handle: Sequence[float] | None, length: float
) -> tuple[Points, Points]:
    """A handle (drawn from the middle of the picture if none is given) and a target that far off, both inside."""
    height, width = subject.size
    limit = np.array([width - 1, height - 1], np.float64)
    p = limit * random.uniform(0.25, 0.75, 2) if handle is None else np.asarray(handle, np.float64)
    for _ in range(100):
        angle = random.uniform(0, 2 * np.pi)
        t = p + length * np.array([np.cos(angle), np.sin(angle)])
        if (t >= 1).all() and (t <= limit - 1).all():
            break
    else:
        t = p + (limit / 2 - p) * min(length / max(float(np.linalg.norm(limit / 2 - p)), 1e-9), 1.0)
    return p[None].astype(np.float32), t[None].astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class Landmarks(Protocol):
    """Landmark manipulation (DragGAN, Table 1): two random pictures, landmarks of one to where they are in the other.

    Figures: mean distance of the landmarks to their targets as *found again* in the result by the landmark network,
    which knows nothing of the drag ("landmarks"), before any drag ("asked") and by the drag's own tracker ("tracked").
    Which landmarks are dragged is drawn anew for every pair, of those visible in both pictures.

    Attributes:
        points: how many landmarks; `ALL` for every one.
    """

    points: int = 1
    first_seed: int = 0

    name = "landmarks"
    main = "landmarks"
    columns = (
        Column(key="asked", title="landmarks to targets, before", unit="px"),
        Column(key="landmarks", title="landmarks to targets, found again", unit="px"),
        Column(key="tracked", title="handles to targets, tracked", unit="px"),
        *_DRAG_COLUMNS,
        Column(key="detector", title="error of the landmark network itself", unit="px"),
    )

    @property
    def title(self) -> str:
        return _counted(self.name, self.points)

    def missing(self, subject: Subject) -> str:
        return "" if subject.names else "it needs a landmark network or a scene, which only built-in models have"

    def settings(self) -> dict[str, Any]:
        return {"points": self.points or "all", "first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z_a, z_b = _seed_pair(self, subject, index)
        ws = subject.latent(z_a)
        picture, other = subject.picture(ws), subject.picture(subject.latent(z_b))
        (found, good), (there, good_there) = subject.landmarks(z_a, picture), subject.landmarks(z_b, other)
        able = np.flatnonzero(good & good_there)
        if not len(able):
            return "no landmark is visible in both pictures"
        chosen = able if self.points == ALL else np.sort(self.random(index).permutation(able)[: self.points])
        return Task(
            seed=seed,
            ws=ws,
            handles=found[chosen].astype(np.float32),
            targets=there[chosen].astype(np.float32),
            names=tuple(subject.names[i] for i in chosen),
            z_other=z_b,
            truth=other,
            other=other,
            found=found,
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        after = subject.picture(dragged.ws)
        figures = _drag_figures(subject, task.ws, dragged)
        figures["asked"] = _away(task.handles, task.targets)
        again = subject.find(after)
        chosen = [subject.names.index(name) for name in task.names]
        figures["landmarks"] = None if again is None else _away(again[chosen], task.targets)
        true = None if task.z_other is None or again is None else subject.truth(task.z_other, task.names)
        figures["detector"] = None if true is None else _away(task.targets, true[0])
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=_shift(task.ws, dragged.ws),
            features=_features(subject, before=subject.picture(task.ws), after=after, other=task.other),
        )


LENGTHS = (0.05, 0.10, 0.15, 0.20, 0.25, 0.33)
"""How far `Pulls` pulls, as shares of the picture's width, by turns."""

TRULY = 0.035
"""A landmark this near its target is truly there, as a share of the picture's width: three times the error of the
landmark networks themselves."""


SAID = 8 / 512
"""A handle that its drag says is this near its target counts as claimed to be there, as a share of the width: as near
as a drag of several may end that says it has arrived."""


def _share_column(key: str, title: str) -> Column:
    return Column(key=key, title=title, unit="%", digits=0, factor=100, share=True, more_is_better=True)


def _by_length(key: str, title: str) -> tuple[Column, ...]:
    return tuple(_share_column(f"{key}_{round(100 * length)}", f"{title}, {length:.0%} pulls") for length in LENGTHS)


_TRUTH_COLUMNS = (
    _share_column("claimed", "claimed to have arrived"),
    _share_column("truly", "truly there"),
    _share_column("claims_true", "of the claims, true"),
    _share_column("truly_claimed", "of those truly there, claimed"),
    Column(key="off", title="reported against true distance, median", unit="% of the width", factor=100, quantile=0.5),
    Column(key="off", title="reported against true distance, 9 in 10", unit="% of the width", factor=100, quantile=0.9),
    Column(key="landmarks", title="landmarks to targets, found again", unit="px"),
    Column(key="tracked", title="handles to targets, tracked", unit="px"),
)


def _truth_figures(dragged: Dragged, targets: Points, found: Points, width: int) -> dict[str, float | None]:
    """What a drag said of where its handles are, against where they are.

    Args:
        found: the same landmarks in the result, by a network that knows nothing of the drag.
    """
    true = np.linalg.norm(found - targets, axis=1)
    there = true < TRULY * width
    claimed, truly = dragged.outcome == "arrived", bool(there.all())
    said = (dragged.distances <= SAID * width) & ~dragged.lost
    return {
        "points_claimed": float(said.mean()),
        "points_truly": float(there.mean()),
        "points_claims_true": float(there[said].mean()) if said.any() else None,
        "points_truly_claimed": float(said[there].mean()) if there.any() else None,
        "claimed": float(claimed),
        "truly": float(truly),
        "claims_true": float(truly) if claimed else None,
        "truly_claimed": float(claimed) if truly else None,
        "off": float(np.abs(true - dragged.distances).mean()) / width,
        "landmarks": float(true.mean()),
    }


@dataclass(frozen=True, kw_only=True)
class Pulls(Protocol):
    """Whether an arrival is one: random landmarks pulled by a given length in random directions.

    Most of these pulls ask for pictures that the model does not know; what a drag then says is what this measures. The
    landmark pulled is at least 6 % of the width from the border; where the scene is known, it can be seen, and the
    network finds it within 2 % of the width of its true place: what cannot be found in the first picture says nothing
    of the last one. The target is inside the picture. True is where the network finds the landmark in the result.
    """

    first_seed: int = 0

    name = "pulls"
    main = "off"
    columns = (
        *_TRUTH_COLUMNS,
        *_by_length("claimed", "claimed"),
        *_by_length("truly", "truly there"),
        *_by_length("false", "false claims"),
        *_DRAG_COLUMNS,
    )

    def missing(self, subject: Subject) -> str:
        """See `Protocol.missing`."""
        return "" if subject.finder is not None else "it needs a landmark network, which only built-in models have"

    def settings(self) -> dict[str, Any]:
        """See `Protocol.settings`."""
        return {"first_seed": self.first_seed}

    def _able(
        self, subject: Subject, z: Float[Tensor, "1 z_dim"], ws: WS
    ) -> tuple[Float[np.ndarray, "landmark 2"], Int[np.ndarray, "able"]]:
        """All landmarks of a picture, and the numbers of those that may be pulled."""
        found, good = subject.landmarks(z, subject.picture(ws))
        height, width = subject.size
        edge = 0.06 * width
        good &= ((found > edge) & (found < np.array([width - 1, height - 1]) - edge)).all(1)
        true = subject.truth(z, subject.names)
        if true is not None:
            good &= np.linalg.norm(found - true[0], axis=1) < 0.02 * width
        return found, np.flatnonzero(good)

    def task(self, subject: Subject, index: int) -> Task | str:
        """See `Protocol.task`."""
        random, width = self.random(index), subject.size[1]
        seed = self.first_seed + index
        z = subject.noise(seed)
        ws = subject.latent(z)
        limit = np.array([width - 1, subject.size[0] - 1])
        found, able = self._able(subject, z, ws)
        if not len(able):
            return "no landmark is visible"
        chosen, length = int(random.choice(able)), LENGTHS[index % len(LENGTHS)] * width
        for _ in range(50):
            angle = random.uniform(0, 2 * np.pi)
            target = found[chosen] + length * np.array([np.cos(angle), np.sin(angle)])
            if ((target > 2) & (target < limit - 2)).all():
                break
        else:
            return "no target of that length is inside the picture"
        return Task(
            seed=seed,
            ws=ws,
            handles=found[chosen][None].astype(np.float32),
            targets=target[None].astype(np.float32),
            names=(subject.names[chosen],),
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """See `Protocol.measure`."""
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        after = subject.picture(dragged.ws)
        found = subject.find(after)
        assert found is not None
        width = subject.size[1]
        found = found[[subject.names.index(name) for name in task.names]]
        figures = _drag_figures(subject, task.ws, dragged) | _truth_figures(dragged, task.targets, found, width)
        length = round(100 * float(np.linalg.norm(task.targets - task.handles, axis=1).max()) / width)
        claimed, truly = figures["claimed"], figures["truly"]
        figures |= {
            f"claimed_{length}": claimed,
            f"truly_{length}": truly,
            f"false_{length}": float(bool(claimed) and not truly),
        }
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=_shift(task.ws, dragged.ws),
            features=_features(subject, before=subject.picture(task.ws), after=after),
        )


@dataclass(frozen=True, kw_only=True)
class Pairs(Landmarks):
    """The tasks of `Landmarks`, which are possible, as another picture of the model shows: what is said of them.

    With several points also of each by itself, as a mean over the drags: of many some are always off by more than the
    landmark network can tell.
    """

    name = "pairs"
    columns = (
        Column(key="asked", title="landmarks to targets, before", unit="px"),
        *_TRUTH_COLUMNS,
        Column(key="points_claimed", title="points said to be there", unit="%", digits=0, factor=100),
        Column(key="points_truly", title="points truly there", unit="%", digits=0, factor=100),
        Column(key="points_claims_true", title="of the points said to be there, true", unit="%", digits=1, factor=100),
        Column(key="points_truly_claimed", title="of those truly there, said", unit="%", digits=0, factor=100),
        *_DRAG_COLUMNS,
    )

    def missing(self, subject: Subject) -> str:
        """See `Protocol.missing`."""
        return "" if subject.finder is not None else "it needs a landmark network, which only built-in models have"

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """See `Protocol.measure`."""
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        after = subject.picture(dragged.ws)
        found = subject.find(after)
        assert found is not None
        found = found[[subject.names.index(name) for name in task.names]]
        figures = _drag_figures(subject, task.ws, dragged)
        figures |= _truth_figures(dragged, task.targets, found, subject.size[1])
        figures["asked"] = _away(task.handles, task.targets)
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=_shift(task.ws, dragged.ws),
            features=_features(subject, before=subject.picture(task.ws), after=after, other=task.other),
        )


@dataclass(frozen=True, kw_only=True)
class PullsApart(Pulls):
    """Two random landmarks pulled apart, each by 5 % of the width along the line between them.

    Lips, eyelids and ears are opened, closed and spread so; two landmarks of one rigid part cannot be.
    """

    name = "apart"
    columns = (*_TRUTH_COLUMNS, *_DRAG_COLUMNS)

    def task(self, subject: Subject, index: int) -> Task | str:
        """See `Protocol.task`."""
        random, width = self.random(index), subject.size[1]
        seed = self.first_seed + index
        z = subject.noise(seed)
        ws = subject.latent(z)
        limit = np.array([width - 1, subject.size[0] - 1])
        found, able = self._able(subject, z, ws)
        if len(able) < 2:
            return "fewer than two landmarks are visible"
        chosen = random.choice(able, 2, replace=False)
        handles = found[chosen]
        line = handles[1] - handles[0]
        away = LENGTHS[0] * width * line / max(float(np.linalg.norm(line)), 1e-6)
        targets = (handles + np.stack([-away, away])).clip(2, limit - 2)
        return Task(
            seed=seed,
            ws=ws,
            handles=handles.astype(np.float32),
            targets=targets.astype(np.float32),
            names=tuple(subject.names[i] for i in chosen),
        )


@dataclass(frozen=True, kw_only=True)
class Reconstruction(Protocol):
    """Paired reconstruction (DragGAN, Table 2): from one picture to a nearby one by points of the flow between them.

    ``z2 = z1 cos a + n sin a`` with ``sin a`` = ``perturbation``; 32 random points that the flow knows in both
    pictures are dragged from the first to the second, in at most 100 steps, as published. The flow is the scene's
    truth where there is one, else correspondences of features. Size of the perturbation: ours, none is published.

    Attributes:
        points: how many points of the flow.
        perturbation: how far away the second picture is, 0 to 1.
    """

    points: int = 32
    perturbation: float = 0.3
    first_seed: int = 0

    name = "reconstruction"
    main = "mse"
    finds = False
    columns = (
        Column(key="mse_before", title="MSE x 100, before", digits=3, factor=100),
        Column(key="mse", title="MSE x 100", digits=3, factor=100),
        Column(key="perceptual_before", title="perceptual distance, before", digits=3),
        Column(key="perceptual", title="perceptual distance", digits=3),
        Column(key="ms_ssim", title="MS-SSIM", digits=3),
        Column(key="asked", title="points to targets, before", unit="px"),
        Column(key="tracked", title="points to targets, tracked", unit="px"),
        *_DRAG_COLUMNS,
    )

    @property
    def title(self) -> str:
        return _counted(self.name, self.points)

    def settings(self) -> dict[str, Any]:
        return {"points": self.points, "perturbation": self.perturbation, "first_seed": self.first_seed}

    def limited(self, config: DragConfig) -> DragConfig:
        return replace(config, max_steps=min(config.max_steps, 100))

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z_a, noise = _seed_pair(self, subject, index)
        z_b = z_a * (1 - self.perturbation**2) ** 0.5 + noise * self.perturbation
        height, width = subject.size
        points = self.random(index).uniform([1, 1], [width - 2, height - 2], (16 * self.points, 2)).astype(np.float32)
        there, good = subject.flow(z_a, z_b, points)
        chosen = np.flatnonzero(good)[: self.points]
        if not len(chosen):
            return "no point could be found in both pictures"
        return Task(
            seed=seed,
            ws=subject.latent(z_a),
            handles=points[chosen],
            targets=there[chosen].astype(np.float32),
            truth=subject.picture(subject.latent(z_b)),
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.truth is not None
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        before, after = subject.picture(task.ws), subject.picture(dragged.ws)
        figures = _drag_figures(subject, task.ws, dragged) | {
            "asked": _away(task.handles, task.targets),
            "mse_before": mean_square(before, task.truth),
            "mse": mean_square(after, task.truth),
            "perceptual_before": gradient_distance(before, task.truth),
            "perceptual": gradient_distance(after, task.truth),
            "ms_ssim": ms_ssim(after, task.truth),
        }
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=_shift(task.ws, dragged.ws),
        )


def _there_and_back(subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
    """Drag, drag back from where the handles were tracked to, and compare with the start."""
    there = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
    height, width = subject.size
    limit = np.array([width - 1, height - 1], np.float32)
    back = drag(subject, there.ws, there.handles.clip(0, limit), task.handles, task.mask, config, method)
    before, after = subject.picture(task.ws), subject.picture(back.ws)
    a, b = (ws[0].double().cpu().numpy() for ws in (task.ws, back.ws))
    again = subject.find(after)
    figures = _drag_figures(subject, task.ws, there) | {
        "asked": _away(task.handles, task.targets),
        "arrived_back": float(back.outcome == "arrived"),
        "steps": float(there.steps + back.steps),
        "seconds": there.seconds + back.seconds,
        "cpu": there.cpu + back.cpu,
        "tracked_back": float(back.distances.mean()),
        "mse": mean_square(before, after),
        "perceptual": gradient_distance(before, after),
        "ms_ssim": ms_ssim(before, after),
        "latent_back": subject.whitening.between(a, b),
        "landmarks_back": None if again is None or task.found is None else _away(again, task.found),
    }
    return Case(
        seed=task.seed,
        figures=figures,
        outcome=f"{there.outcome}, {back.outcome}",
        shift=_shift(task.ws, back.ws),
        features=_features(subject, before=before, after=subject.picture(there.ws)),
    )


_THERE_AND_BACK_COLUMNS = (
    Column(key="asked", title="asked", unit="px"),
    Column(key="tracked", title="handles to targets, tracked", unit="px"),
    Column(key="tracked_back", title="handles to start, tracked, back", unit="px"),
    Column(key="mse", title="MSE x 100, back", digits=3, factor=100),
    Column(key="perceptual", title="perceptual distance, back", digits=3),
    Column(key="ms_ssim", title="MS-SSIM, back", digits=3),
    Column(key="landmarks_back", title="all landmarks to start, back", unit="px"),
    Column(key="latent_back", title="latent distance to start, back", digits=2),
    Column(key="arrived_back", title="arrived back", unit="%", digits=0, factor=100, share=True),
    *_DRAG_COLUMNS,
)


@dataclass(frozen=True, kw_only=True)
class Roundtrip(Protocol):
    """There and back (the idea of FreeDrag's CCSD): what a drag did that its reverse does not undo.

    Tasks are those of `Landmarks`. Without landmarks one random point in the middle of the picture is dragged by
    12 % of the picture's size in a random direction. Steps and seconds are of both ways together.

    Attributes:
        points: how many landmarks; `ALL` for every one.
    """

    points: int = 1
    first_seed: int = 0

    name = "roundtrip"
    main = "perceptual"
    columns = _THERE_AND_BACK_COLUMNS
    returns = True

    @property
    def title(self) -> str:
        return _counted(self.name, self.points)

    def settings(self) -> dict[str, Any]:
        return {"points": self.points or "all", "first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        if subject.names:
            task = Landmarks(points=self.points, first_seed=self.first_seed).task(subject, index)
            return task if isinstance(task, str) else replace(task, truth=subject.picture(task.ws))
        seed, z, _ = _seed_pair(self, subject, index)
        ws = subject.latent(z)
        handles, targets = _random_move(subject, self.random(index), None, 0.12 * max(subject.size))
        return Task(seed=seed, ws=ws, handles=handles, targets=targets, truth=subject.picture(ws))

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        return _there_and_back(subject, task, config, method)


@dataclass(frozen=True, kw_only=True)
class Cycle(Protocol):
    """Whether an arrival is one, where no truth is known: for photographic models.

    A point is pulled as in `Pulls` (without a landmark network a random one at which something can be seen), and then
    from where the drag says it is back to its start. Three witnesses know nothing of the drag's tracker, each within
    `TRULY` of the width: following the content along the straight line between both latents (`along_the_line`) and
    looking for what resembles it most (`most_resembling`), both against where the drag says it is; and the way back:
    the picture that has returned shows the content, followed along the straight line from the first picture to that
    one, at its start. A claim that two of the three confirm is *confirmed*.

    Where there is a landmark network, how often that is what it says ("judged rightly") is measured too, and so is how
    far this protocol can be believed where there is none.
    """

    first_seed: int = 0

    name = "cycle"
    main = "confirmed"
    columns = (
        _share_column("claimed", "claimed to have arrived"),
        _share_column("line", "of the claims, confirmed along the straight line"),
        _share_column("resembles", "of the claims, confirmed by resemblance"),
        _share_column("returned", "of the claims, content back at its start"),
        _share_column("confirmed", "of the claims, confirmed by two of three"),
        Column(
            key="line_off",
            title="reported against along the line, median",
            unit="% of the width",
            factor=100,
            quantile=0.5,
        ),
        Column(
            key="resembles_off",
            title="reported against most resembling, median",
            unit="% of the width",
            factor=100,
            quantile=0.5,
        ),
        Column(
            key="returned_off",
            title="content back against its start, median",
            unit="% of the width",
            factor=100,
            quantile=0.5,
        ),
        Column(key="perceptual", title="perceptual distance, back", digits=3),
        Column(key="latent_back", title="latent distance to start, back", digits=2),
        Column(key="tracked", title="handles to targets, tracked", unit="px"),
        _share_column("claims_true", "of the claims, true by the landmark network"),
        _share_column("confirmed_true", "of the confirmed claims, true"),
        _share_column("doubted_false", "of the claims not confirmed, false"),
        _share_column("judged", "of the claims, judged rightly"),
        _share_column("judged_line", "judged rightly by the line alone"),
        _share_column("judged_resembles", "judged rightly by resemblance alone"),
        _share_column("judged_returned", "judged rightly by the way back alone"),
        *_DRAG_COLUMNS,
    )

    def settings(self) -> dict[str, Any]:
        """See `Protocol.settings`."""
        return {"first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        """See `Protocol.task`."""
        if subject.finder is not None:
            return Pulls(first_seed=self.first_seed).task(subject, index)
        random, seed = self.random(index), self.first_seed + index
        ws = subject.latent(subject.noise(seed))
        handle = distinct_point(subject.generator, ws, random, DragConfig())
        length = LENGTHS[index % len(LENGTHS)] * subject.size[1]
        handles, targets = _random_move(subject, random, handle.tolist(), length)
        return Task(seed=seed, ws=ws, handles=handles, targets=targets)

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """See `Protocol.measure`."""
        generator, (height, width) = subject.generator, subject.size
        limit = np.array([width - 1, height - 1], np.float32)
        there = drag(subject, task.ws, task.handles, task.targets, None, config, method)
        said = there.handles.clip(0, limit).astype(np.float32)
        figures = _drag_figures(subject, task.ws, there)
        claimed = there.outcome == "arrived"
        asked = _away(said, task.handles)
        on_the_line, _ = along_the_line(generator, task.ws, there.ws, task.handles, asked, config)
        alike = most_resembling(generator, task.ws, there.ws, task.handles, config)
        off = {"line": _away(on_the_line, said) / width, "resembles": _away(alike, said) / width}
        outcome, after = there.outcome, subject.picture(there.ws)
        if claimed:
            back = drag(subject, there.ws, said, task.handles, None, config, method)
            again, _ = along_the_line(generator, task.ws, back.ws, task.handles, asked, config)
            off["returned"] = _away(again, task.handles) / width
            a, b = (ws[0].double().cpu().numpy() for ws in (task.ws, back.ws))
            figures |= {
                "perceptual": gradient_distance(subject.picture(task.ws), subject.picture(back.ws)),
                "latent_back": subject.whitening.between(a, b),
                "seconds": there.seconds + back.seconds,
                "cpu": there.cpu + back.cpu,
            }
            outcome = f"{there.outcome}, {back.outcome}"
        figures |= {"claimed": float(claimed)} | {f"{name}_off": value for name, value in off.items()}
        if claimed:
            figures |= _judged(off, self._truly(subject, task, after))
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=outcome,
            shift=_shift(task.ws, there.ws),
            features=_features(subject, before=subject.picture(task.ws), after=after),
        )

    @staticmethod
    def _truly(subject: Subject, task: Task, after: Picture) -> bool | None:
        """Whether the landmarks are at their targets; None where nobody knows."""
        found = subject.find(after)
        if found is None:
            return None
        found = found[[subject.names.index(name) for name in task.names]]
        return bool((np.linalg.norm(found - task.targets, axis=1) < TRULY * subject.size[1]).all())


def _judged(off: dict[str, float], truly: bool | None) -> dict[str, float | None]:
    """What the witnesses say of a claim, and whether that is right.

    Args:
        off: how far each is from what the drag says, as a share of the width.
        truly: None where nobody knows.
    """
    says = {name: value < TRULY for name, value in off.items()}
    confirmed = sum(says.values()) >= 2
    figures: dict[str, float | None] = {name: float(value) for name, value in says.items()}
    figures["confirmed"] = float(confirmed)
    if truly is not None:
        figures |= {f"judged_{name}": float(value == truly) for name, value in says.items()} | {
            "claims_true": float(truly),
            "confirmed_true": float(truly) if confirmed else None,
            "doubted_false": None if confirmed else float(not truly),
            "judged": float(confirmed == truly),
        }
    return figures


@dataclass(frozen=True, kw_only=True)
class Instructions(Protocol):
    """Drags that a file asks for (`read_instructions`), there and back as FreeDragBench measures them.

    Attributes:
        instructions: what the file says.
    """

    instructions: tuple[Instruction, ...]
    first_seed: int = 0

    name = "instructions"
    main = "perceptual"
    columns = _THERE_AND_BACK_COLUMNS
    returns = True

    def settings(self) -> dict[str, Any]:
        return {"instructions": [i.as_list() for i in self.instructions]}

    def count(self) -> int | None:
        return len(self.instructions)

    def task(self, subject: Subject, index: int) -> Task | str:
        instruction = self.instructions[index]
        ws = subject.latent(subject.noise(instruction.seed))
        picture = subject.picture(ws)
        handles, targets = instruction.at_size(subject.size)
        return Task(
            seed=instruction.seed, ws=ws, handles=handles, targets=targets, truth=picture, found=subject.find(picture)
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        return _there_and_back(subject, task, config, method)


@dataclass(frozen=True, kw_only=True)
class Mask(Protocol):
    """A small drag with and without a mask: what changes outside it, against what changes inside.

    A random landmark (a random point where there are none) is dragged by 6 % of the picture's size in a random
    direction; what is within a fifth of the picture's size of its way may change. Changes are mean absolute
    differences of the picture's values, 0 to 255, of what the latents draw: how well the mask loss alone holds
    (``mask_hold`` is "soft"). Outcome, arrival, time and latent distances are of the masked drag.
    """

    first_seed: int = 0

    name = "mask"
    main = "outside"
    columns = (
        Column(key="outside", title="change outside, with mask", unit="of 255"),
        Column(key="outside_free", title="change outside, without", unit="of 255"),
        Column(key="inside", title="change inside, with mask", unit="of 255"),
        Column(key="inside_free", title="change inside, without", unit="of 255"),
        Column(key="arrived_free", title="arrived, without", unit="%", digits=0, factor=100, share=True),
        Column(key="steps_free", title="steps, without", digits=0),
        Column(key="seconds_free", title="time, without", unit="s", digits=2),
        Column(key="tracked", title="handles to targets, tracked", unit="px"),
        *_DRAG_COLUMNS,
    )

    def settings(self) -> dict[str, Any]:
        return {"first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed, z, _ = _seed_pair(self, subject, index)
        ws = subject.latent(z)
        random = self.random(index)
        found, good = subject.landmarks(z, subject.picture(ws))
        able = np.flatnonzero(good)
        if subject.names and not len(able):
            return "no landmark is visible"
        handle = found[random.choice(able)].tolist() if len(able) else None
        handles, targets = _random_move(subject, random, handle, 0.06 * max(subject.size))
        mask = around(handles[0].tolist(), targets[0].tolist(), subject.size, max(subject.size) / 5)
        return Task(seed=seed, ws=ws, handles=handles, targets=targets, mask=mask)

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.mask is not None
        config = replace(config, mask_hold="soft")
        held = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        free = drag(subject, task.ws, task.handles, task.targets, None, config, method)
        before = subject.picture(task.ws)
        figures = _drag_figures(subject, task.ws, held) | {
            "arrived_free": float(free.outcome == "arrived"),
            "steps_free": float(free.steps),
            "seconds_free": free.seconds,
        }
        for ending, dragged in (("", held), ("_free", free)):
            change = (subject.picture(dragged.ws) - before).abs().mean((0, 1)).cpu().numpy() * 127.5
            figures["outside" + ending] = float(change[~task.mask].mean()) if not task.mask.all() else None
            figures["inside" + ending] = float(change[task.mask].mean())
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=held.outcome,
            shift=_shift(task.ws, held.ws),
            features=_features(subject, before=before, after=subject.picture(held.ws)),
        )


@dataclass(frozen=True, kw_only=True)
class Quality(Protocol):
    """How well a built-in model draws: generated pictures against the renderings that they should be.

    Nothing is dragged. The seeds are not those of the training, which draws its noise another way. Sharpness is
    the energy of the gradients, generated over rendered.
    """

    first_seed: int = 0

    name = "quality"
    main = "psnr"
    columns = (
        Column(key="psnr", title="PSNR", unit="dB", more_is_better=True),
        Column(key="ms_ssim", title="MS-SSIM", digits=3),
        Column(key="perceptual", title="perceptual distance", digits=3),
        Column(key="sharpness", title="sharpness, generated over rendered", digits=2),
        Column(key="landmarks_rendered", title="landmark network's error on renderings", unit="px"),
        Column(key="landmarks_generated", title="landmark network's error on generated pictures", unit="px"),
    )

    def missing(self, subject: Subject) -> str:
        if subject.scene is None:
            return "it needs the scene that the model was trained on, which only built-in models have"
        return "" if subject.exact is not None else "a scene knows the right picture at truncation 1 only"

    def settings(self) -> dict[str, Any]:
        return {"first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        seed = self.first_seed + index
        z = subject.noise(seed)
        assert subject.exact is not None
        rendering = subject.exact.render(subject.exact.parameters(z.numpy()), subject.size[0])
        none = np.zeros((0, 2), np.float32)
        truth = torch.from_numpy(np.asarray(rendering.pictures)).float() / 127.5 - 1
        return Task(
            seed=seed, ws=subject.latent(z), handles=none, targets=none, truth=truth.to(subject.generator.device)
        )

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        assert task.truth is not None
        made, right = subject.picture(task.ws), task.truth
        figures: dict[str, float | None] = {
            "psnr": psnr(made, right),
            "ms_ssim": ms_ssim(made, right),
            "perceptual": gradient_distance(made, right),
            "sharpness": sharpness(made) / max(sharpness(right), 1e-12),
            "landmarks_rendered": None,
            "landmarks_generated": None,
        }
        true = None if subject.finder is None else subject.truth(subject.noise(task.seed), subject.names)
        if true is not None and true[1].any():
            points, visible = true
            for key, picture in (("landmarks_rendered", right), ("landmarks_generated", made)):
                found = subject.find(picture)
                assert found is not None
                figures[key] = _away(found[visible], points[visible])
        return Case(seed=task.seed, figures=figures, outcome="", features=_features(subject, before=right, after=made))


def possible(subject: Subject) -> dict[str, str]:
    """Every protocol's name and why it cannot be run on this subject (empty if it can)."""
    protocols: tuple[Protocol, ...] = (
        Landmarks(),
        Pulls(),
        PullsApart(),
        Pairs(),
        Reconstruction(),
        Roundtrip(),
        Cycle(),
        Mask(),
        Instructions(instructions=()),
        Quality(),
    )
    return {p.name: p.missing(subject) for p in protocols}


def check(protocol: Protocol, subject: Subject) -> None:
    """Nothing, if the protocol can be run on this subject.

    Raises:
        ConfigError: it cannot; the message says why, and which protocols can.
    """
    why = protocol.missing(subject)
    if why:
        rest = ", ".join(name for name, missing in possible(subject).items() if not missing)
        raise ConfigError(f"protocol '{protocol.name}' cannot be run on {subject.name}: {why}; possible are {rest}")
