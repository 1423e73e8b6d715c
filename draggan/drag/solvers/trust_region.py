"""How far a step may go: trust radius and damping, by how well the last steps kept what they promised."""

from __future__ import annotations

from dataclasses import dataclass, replace

from draggan.config import TrustRegion

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

    def reopened(self, rules: TrustRegion, stop_distance: float) -> Region:
        """For the first attempt of a step: smaller or damped more, it would get nowhere.

        Args:
            stop_distance: image pixels.
        """
        return Region(max(self.radius, rules.shrink * stop_distance), min(self.damping, rules.max_initial_damping))

    def expanded(self, rules: TrustRegion, widest: float) -> Region:
        """After a step that kept its promise.

        Args:
            widest: the largest radius, image pixels.
        """
        return Region(
            min(self.radius * rules.widen, widest), max(self.damping * rules.damping_decrease, rules.min_damping)
        )

    def shrunk(self, rules: TrustRegion, asked: float) -> Region:
        """After a step that did not.

        Args:
            asked: how far the farthest handle was to go, image pixels.
        """
        return replace(
            self, radius=rules.shrink * min(self.radius, asked), damping=self.damping * rules.damping_increase
        )


def initial_region(rules: TrustRegion, widest: float) -> Region:
    """Before the first step."""
    return Region(widest, rules.min_damping)


def accepts(rules: TrustRegion, gain: float, promised: float) -> bool:
    """Whether a step that brought the handles nearer by ``gain`` pixels in all is kept.

    Args:
        promised: by how many the linear model said that it would.
    """
    return gain >= rules.accept_ratio * promised
