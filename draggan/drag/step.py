"""What one step of a drag knows, and which of a drag's steps was the best."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from draggan.drag.stopping import Outcome
from torch_utils.transfer import to_host

__all__ = ["FADED", "DragStep", "Nearest"]

FADED = 0.78
"""A picture whose features vary by less than this share of what those of the first one do has lost much detail.

Of one or two handles without a mask nothing is claimed there: of 11 such claims of 310 seven were true.
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class DragStep:
    """What one step knows. Everything in it describes the same latent code.

    Attributes:
        index: 0 is the picture as it was before the drag.
        ws: the latent, ``[1, num_ws, w_dim]``; `Drag.picture` draws it.
        handles, targets: ``[n, 2]`` image pixels ``(x, y)``; the handles as tracked in this picture.
        distances: ``[n]`` image pixels from handle to target.
        start: ``[n, 2]`` image pixels, where the handles were when the drag began.
        lost: ``[n]`` whether nothing may be claimed of a handle; its place is the best guess. Of many handles that is
            said of the last step only.
        loss: the supervision loss at this latent; 0 in a last step.
        done: this is the last step.
        outcome: why it is the last one, None before; `draggan.drag.stopping.Outcome` says what each means. After
            all but "arrived" and "stopped" the last step shows the best latent of the drag (smallest summed distance)
            of which it is as good as certain where the content is.
        contrast: of the last step of a drag that has arrived, or may have, by how much the features vary over the
            picture, as a share of the first picture's; 1 of all others. Below `FADED` people see it: it has faded.
        stretched: of the last step of a drag that may have arrived: its two handles have moved against each other so
            far that the picture may only have been stretched or squeezed between them.
        rests: why a live drag goes no farther until there are other targets, None while it goes on; values as of
            ``outcome``.
    """

    index: int
    ws: Float[Tensor, "1 num_ws w_dim"]
    handles: Float[np.ndarray, "n 2"]
    targets: Float[np.ndarray, "n 2"]
    distances: Float[np.ndarray, "n"]
    loss: float
    start: Float[np.ndarray, "n 2"]
    lost: Bool[np.ndarray, "n"]
    done: bool = False
    outcome: Outcome | None = None
    rests: Outcome | None = None
    contrast: float = 1.0
    stretched: bool = False

    @property
    def total_distance(self) -> float:
        """How far all handles together are from their targets, image pixels."""
        return float(self.distances.sum())

    @property
    def way(self) -> float:
        """How much of the way all handles together have gone: 1 at the targets, negative where they are farther."""
        asked = float(np.linalg.norm(self.targets - self.start, axis=1).sum())
        return 1 - self.total_distance / asked if asked > 0 else 1.0

    def measured_against(self, targets: Float[Tensor, "n 2"]) -> DragStep:
        """The same step with other targets."""
        (known,) = to_host(targets)
        wanted = known.numpy().copy()
        return replace(self, targets=wanted, distances=np.linalg.norm(wanted - self.handles, axis=1))


@dataclass(frozen=True, eq=False)
class Nearest:
    """The first step of a drag and the one nearest to the targets; both None before there is any."""

    first: DragStep | None = None
    best: DragStep | None = None

    def including(self, step: DragStep) -> Nearest:
        """With one more step."""
        if self.first is None or self.best is None:
            return Nearest(step, step)
        return Nearest(self.first, min(self.best, step, key=lambda s: s.total_distance))

    def measured_against(self, targets: Float[Tensor, "n 2"]) -> Nearest:
        """With other targets, where the first step may turn out to be the best again."""
        if self.first is None or self.best is None:
            return self
        first, best = self.first.measured_against(targets), self.best.measured_against(targets)
        return Nearest(first, first).including(best)

    def last_step(self, here: DragStep, outcome: Outcome, *, untrusted: bool = False) -> DragStep:
        """The last step of a drag that ends here: this latent or, where the outcome calls for it, the best one.

        Args:
            untrusted: nothing true can be said of this latent's picture, so it is never what is shown.
        """
        best = self.best
        broken = untrusted or outcome == "diverged" or not bool(torch.isfinite(here.ws).all())
        keeps = outcome in ("arrived", "stopped") or best is None or best.total_distance >= here.total_distance
        shown = here if best is None or (keeps and not broken) else best
        return replace(shown, index=here.index, loss=0.0, done=True, outcome=outcome, rests=None)
