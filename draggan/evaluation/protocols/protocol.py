"""What a protocol is, and what it is made of: columns, tasks, cases and ways to drag."""

from __future__ import annotations

import abc
import typing
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.config import DragConfig
from draggan.drag import Drag, DragStep
from draggan.evaluation.subject import Subject
from draggan.generators.base import Generator

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


def share_column(key: str, title: str) -> Column:
    """Of 0 or 1, shown in per cent."""
    return Column(key=key, title=title, unit="%", digits=0, factor=100, share=True, more_is_better=True)


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
