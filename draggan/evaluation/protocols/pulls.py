"""Whether an arrival is one, by landmark networks that know nothing of the drag."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    Dragged,
    drag,
    drag_figures,
    landmark_features,
    mean_distance,
    shift_between,
)
from draggan.evaluation.protocols.landmarks import Landmarks
from draggan.evaluation.protocols.protocol import (
    WS,
    Case,
    Column,
    Method,
    Picture,
    Points,
    Protocol,
    Task,
    share_column,
)
from draggan.evaluation.subject import Subject

LENGTHS = (0.05, 0.10, 0.15, 0.20, 0.25, 0.33)
"""How far `Pulls` pulls, as shares of the picture's width, by turns."""

TRULY = 0.035
"""A landmark this near its target is truly there, as a share of the picture's width: three times the error of the
landmark networks themselves."""


SAID = 8 / 512
"""A handle that its drag says is this near its target counts as claimed to be there, as a share of the width: as near
as a drag of several may end that says it has arrived."""


def _by_length(key: str, title: str) -> tuple[Column, ...]:
    return tuple(share_column(f"{key}_{round(100 * length)}", f"{title}, {length:.0%} pulls") for length in LENGTHS)


_TRUTH_COLUMNS = (
    share_column("claimed", "claimed to have arrived"),
    share_column("truly", "truly there"),
    share_column("claims_true", "of the claims, true"),
    share_column("truly_claimed", "of those truly there, claimed"),
    Column(key="off", title="reported against true distance, median", unit="% of the width", factor=100, quantile=0.5),
    Column(key="off", title="reported against true distance, 9 in 10", unit="% of the width", factor=100, quantile=0.9),
    Column(key="detail", title="detail of the picture, share of the first one's", unit="%", digits=0, factor=100),
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


def _detail(picture: Picture) -> float:
    """How much neighbouring pixels of a picture differ, mean; a melted or faded one has little of it."""
    return sum(float(picture.diff(dim=k).abs().mean()) for k in (2, 3))


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
        *DRAG_COLUMNS,
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
        before, after = subject.picture(task.ws), subject.picture(dragged.ws)
        found = subject.find(after)
        assert found is not None
        width = subject.size[1]
        found = found[[subject.names.index(name) for name in task.names]]
        figures = drag_figures(subject, task.ws, dragged) | _truth_figures(dragged, task.targets, found, width)
        figures["detail"] = _detail(after) / _detail(before)
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
            shift=shift_between(task.ws, dragged.ws),
            features=landmark_features(subject, before=before, after=after),
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
        *DRAG_COLUMNS,
    )

    def missing(self, subject: Subject) -> str:
        """See `Protocol.missing`."""
        return "" if subject.finder is not None else "it needs a landmark network, which only built-in models have"

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """See `Protocol.measure`."""
        dragged = drag(subject, task.ws, task.handles, task.targets, task.mask, config, method)
        before, after = subject.picture(task.ws), subject.picture(dragged.ws)
        found = subject.find(after)
        assert found is not None
        found = found[[subject.names.index(name) for name in task.names]]
        figures = drag_figures(subject, task.ws, dragged)
        figures |= _truth_figures(dragged, task.targets, found, subject.size[1])
        figures["detail"] = _detail(after) / _detail(before)
        figures["asked"] = mean_distance(task.handles, task.targets)
        return Case(
            seed=task.seed,
            figures=figures,
            outcome=dragged.outcome,
            shift=shift_between(task.ws, dragged.ws),
            features=landmark_features(subject, before=before, after=after, other=task.other),
        )


@dataclass(frozen=True, kw_only=True)
class PullsApart(Pulls):
    """Two random landmarks pulled apart, each by 5 % of the width along the line between them.

    Lips, eyelids and ears are opened, closed and spread so; two landmarks of one rigid part cannot be.
    """

    name = "apart"
    columns = (*_TRUTH_COLUMNS, *DRAG_COLUMNS)

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
