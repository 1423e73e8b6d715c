"""What a step of Gauss-Newton is computed from: the features around the handles, and how they depend on the latent."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from draggan.drag.motion_supervision import Sampler, pull
from draggan.drag.problem import Problem
from draggan.drag.solvers.jacobian import Copies, pulled_back, residual
from draggan.drag.tracking import AWAY, slopes

__all__ = ["Rows", "Surroundings"]

# Handles whose surroundings are computed with a gradient at a time: bounds memory.
BATCH = 16


@dataclass(frozen=True, eq=False)
class Rows:
    """How the tracked handles, and what is under them, depend on the latent.

    Attributes:
        jacobian: ``dp/dw``, pixels per latent unit; row ``2 i + a`` is that of coordinate a of handle i.
        change: how unlike the start the content looks (`jacobian.residual`); None: that was not asked for.
        content: the derivative of that; no row, likewise.
    """

    jacobian: Float[Tensor, "k shift_rows w_dim"]
    change: Float[Tensor, ""] | None
    content: Float[Tensor, "_ shift_rows w_dim"]


class Surroundings:
    """The features of one latent around its handles, and how their tracked positions depend on it.

    Args:
        handles: about where they are, image pixels.
        last: the Jacobian will not be asked for.
        reach: how far around them features are needed, image pixels; None: as far as tracking looks for them.
    """

    def __init__(
        self,
        problem: Problem,
        shift: Float[Tensor, "1 shift_rows w_dim"],
        handles: Float[Tensor, "n 2"],
        *,
        last: bool,
        reach: float | None = None,
    ) -> None:
        self._problem, self._shift, self.handles = problem, shift, handles
        # A window holds what tracking and the patch need.
        self.reach = problem.reach + AWAY if reach is None else reach
        self.last = last
        self._alone = last or len(handles) > BATCH
        self._copies: Copies | None = None
        self._sampler: Sampler | None = None
        self._rows: Rows | None = None
        # Handles, targets, and the loss for these.
        self._asked: tuple[Tensor, Tensor, Tensor] | None = None

    @property
    def sampler(self) -> Sampler:
        """The features, computed when they are asked for."""
        if self._sampler is None:
            problem = self._problem
            if self._alone:
                with torch.no_grad():
                    self._sampler = problem.around(problem.rows(self._shift), self.handles, self.reach)
            else:
                self._copies = Copies(problem, self._shift, self.handles, self.reach)
                self._sampler = self._copies.sampler
        return self._sampler

    @torch.no_grad()
    def loss(self, handles: Float[Tensor, "n 2"], targets: Float[Tensor, "n 2"]) -> Float[Tensor, ""]:
        """The supervision loss (Eq. 1), computed once for the same places, by identity."""
        if self._asked is None or self._asked[0] is not handles or self._asked[1] is not targets:
            problem = self._problem
            value = pull(self.sampler, handles, targets, problem.near, problem.patch, problem.size)
            self._asked = handles, targets, value
        return self._asked[2]

    @torch.no_grad()
    def rows(self, handles: Float[Tensor, "n 2"], *, content: bool) -> Rows:
        """How everything depends on the latent at the tracked handles, computed once, whatever is asked for later.

        Args:
            content: what is under the handles, too.
        """
        if self._rows is None:
            self._rows = self._found(handles, content=content)
        return self._rows

    def forget(self) -> None:
        """Give up what only `rows` needs, which takes memory as long as somebody has this."""
        self._copies = None

    def _found(self, handles: Float[Tensor, "n 2"], *, content: bool) -> Rows:
        problem = self._problem
        offsets, weights = problem.probe
        _, inverse = slopes(self.sampler, handles, offsets, problem.size, weights)
        places, cotangents, change = handles[:, None] + offsets, -inverse, None
        if content:
            change, more = residual(self.sampler, handles, problem.pattern)
            cotangents = torch.cat([cotangents, more], 1)
        if self._copies is not None:
            copies, self._copies = self._copies, None
            rows = pulled_back(copies.shift, copies.each, places, cotangents)
        else:
            rows = torch.cat([self._some(handles, places, cotangents, k) for k in range(0, len(handles), BATCH)])
        return Rows(rows[:, :2].flatten(0, 1), change, rows[:, 2:].sum(0))

    def _some(
        self,
        handles: Float[Tensor, "n 2"],
        places: Float[Tensor, "n p 2"],
        cotangents: Float[Tensor, "n k p c"],
        k: int,
    ) -> Float[Tensor, "some k shift_rows w_dim"]:
        """The rows of some of many handles, from the k-th on."""
        some = slice(k, k + BATCH)
        reach = float(self._problem.probe[0].abs().max()) + 1
        copies = Copies(self._problem, self._shift, handles[some], reach)
        return pulled_back(copies.shift, copies.each, places[some], cotangents[some])
