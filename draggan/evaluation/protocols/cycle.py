"""Whether an arrival is one, where no truth is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from draggan.config import DragConfig
from draggan.evaluation.protocols.figures import (
    DRAG_COLUMNS,
    drag,
    drag_figures,
    landmark_features,
    mean_distance,
    random_move,
    shift_between,
)
from draggan.evaluation.protocols.protocol import (
    Case,
    Column,
    Method,
    Picture,
    Protocol,
    Task,
    share_column,
)
from draggan.evaluation.protocols.pulls import LENGTHS, TRULY, Pulls
from draggan.evaluation.similarity import gradient_distance
from draggan.evaluation.subject import Subject
from draggan.evaluation.witnesses import along_the_line, distinct_point, most_resembling


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
        share_column("claimed", "claimed to have arrived"),
        share_column("line", "of the claims, confirmed along the straight line"),
        share_column("resembles", "of the claims, confirmed by resemblance"),
        share_column("returned", "of the claims, content back at its start"),
        share_column("confirmed", "of the claims, confirmed by two of three"),
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
        share_column("claims_true", "of the claims, true by the landmark network"),
        share_column("confirmed_true", "of the confirmed claims, true"),
        share_column("doubted_false", "of the claims not confirmed, false"),
        share_column("judged", "of the claims, judged rightly"),
        share_column("judged_line", "judged rightly by the line alone"),
        share_column("judged_resembles", "judged rightly by resemblance alone"),
        share_column("judged_returned", "judged rightly by the way back alone"),
        *DRAG_COLUMNS,
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
        handles, targets = random_move(subject, random, handle.tolist(), length)
        return Task(seed=seed, ws=ws, handles=handles, targets=targets)

    def measure(self, subject: Subject, task: Task, config: DragConfig, method: Method) -> Case:
        """See `Protocol.measure`."""
        generator, (height, width) = subject.generator, subject.size
        limit = np.array([width - 1, height - 1], np.float32)
        there = drag(subject, task.ws, task.handles, task.targets, None, config, method)
        said = there.handles.clip(0, limit).astype(np.float32)
        figures = drag_figures(subject, task.ws, there)
        claimed = there.outcome == "arrived"
        asked = mean_distance(said, task.handles)
        on_the_line, _ = along_the_line(generator, task.ws, there.ws, task.handles, asked, config)
        alike = most_resembling(generator, task.ws, there.ws, task.handles, config)
        off = {"line": mean_distance(on_the_line, said) / width, "resembles": mean_distance(alike, said) / width}
        outcome, after = there.outcome, subject.picture(there.ws)
        if claimed:
            back = drag(subject, there.ws, said, task.handles, None, config, method)
            again, _ = along_the_line(generator, task.ws, back.ws, task.handles, asked, config)
            off["returned"] = mean_distance(again, task.handles) / width
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
            shift=shift_between(task.ws, there.ws),
            features=landmark_features(subject, before=subject.picture(task.ws), after=after),
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
