"""How far a step may go: trust radius and damping, by how well the last steps kept what they promised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from draggan.config import GaussNewtonRules

__all__ = ["Region", "accepts", "initial_region"]


@dataclass(frozen=True)
class Region:
    """Where the linear model is believed.

    Attributes:
        radius: how far a step may move a handle, image pixels.
        damping: as a share of the diagonal of ``J S S^T J^T``.
    """

    radius: float
    damping: float

    def reopened(self, rules: GaussNewtonRules, near: float) -> Region:
        """For the first attempt of a step: smaller or damped more, it would get nowhere.

        Args:
            near: how near its target a handle is brought (`Problem.near`), image pixels.
        """
        return Region(max(self.radius, rules.shrink * near), min(self.damping, rules.max_initial_damping))

    def expanded(self, rules: GaussNewtonRules, widen: float, widest: float) -> Region:
        """After a step that kept its promise.

        Args:
            widen: by which factor the radius grows.
            widest: the largest radius, image pixels.
        """
        return Region(min(self.radius * widen, widest), max(self.damping * rules.damping_decrease, rules.min_damping))

    def shrunk(self, rules: GaussNewtonRules, asked: float) -> Region:
        """After a step that did not.

        Args:
            asked: how far the farthest handle was to go, image pixels.
        """
        return replace(
            self, radius=rules.shrink * min(self.radius, asked), damping=self.damping * rules.damping_increase
        )


def initial_region(rules: GaussNewtonRules, widest: float) -> Region:
    """Before the first step."""
    return Region(widest, rules.min_damping)


def accepts(rules: GaussNewtonRules, gain: float, promised: float) -> bool:
    """Whether a step that brought the handles nearer by ``gain`` pixels in all is kept.

    Args:
        promised: by how many the linear model said that it would.
    """
    return gain >= rules.accept_ratio * promised
