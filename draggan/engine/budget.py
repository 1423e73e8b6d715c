"""What a drag costs before it begins, and whether a visitor may have it."""

from __future__ import annotations

import math

from draggan.config import DragConfig, Limits, radii_at_size
from draggan.errors import LimitError

__all__ = ["check_budget", "check_places", "samples_per_step"]


def samples_per_step(config: DragConfig, points: int, image_size: tuple[int, int]) -> int:
    """Feature vectors in the patches (radius r1) and the search windows (half side r2) of all points together.

    Memory and time of a step grow with them. The radii are those in pixels of the picture.
    """
    r1, r2 = radii_at_size(config, image_size)
    return points * (round(math.pi * r1**2) + (2 * r2 + 1) ** 2)


def check_places(limits: Limits, under_way: int, all_under_way: int) -> None:
    """Refuse what would be more at once than a visitor, or all of them, may have.

    Args:
        under_way: drags, photos and completions that the visitor has already.
        all_under_way: that all have.

    Raises:
        LimitError: says what is allowed, and what to do.
    """
    if under_way >= limits.drags:
        raise LimitError(
            f"{under_way} of your drags are under way, and {limits.drags} at once are allowed here; "
            "stop one, or wait until it has ended"
        )
    if all_under_way >= limits.all_drags:
        raise LimitError("too many drags are under way here at this moment; try again in a few seconds")


def check_budget(limits: Limits, config: DragConfig, *, points: int, image_size: tuple[int, int]) -> None:
    """Refuse a drag that is larger than a visitor may have.

    Raises:
        LimitError: says what was asked for, what is allowed, and what to do.
    """
    if points > limits.points:
        raise LimitError(f"{points} points are too many here; {limits.points} are allowed. Remove some")
    if config.max_steps > limits.steps:
        raise LimitError(
            f"{config.max_steps} steps are too many here; {limits.steps} are allowed. Set a lower limit of steps, "
            "and start again from where the drag ends"
        )
    samples = samples_per_step(config, points, image_size)
    if samples > limits.samples:
        raise LimitError(
            f"{points} point{'' if points == 1 else 's'} with r1 = {config.r1:g} and r2 = {config.r2:g} need "
            f"{samples} feature vectors a step, and {limits.samples} are allowed here; "
            "take smaller radii or fewer points"
        )
