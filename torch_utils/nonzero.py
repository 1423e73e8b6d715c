"""Where a tensor is not zero, found on the host."""

from __future__ import annotations

from torch import Tensor

__all__ = ["nonzero_extent"]


def nonzero_extent(x: Tensor) -> tuple[int, int, int, int] | None:
    """The smallest rectangle of cells outside which a batch of maps is zero in every sample and channel.

    Args:
        x: ``[batch, channel, height, width]`` on the host; elsewhere this would wait for the device.

    Returns:
        ``(top, bottom, left, right)``, rows ``top .. bottom - 1`` and columns ``left .. right - 1``; None if all of it
        is zero.
    """
    # A handful of numbers: numpy is done before PyTorch has begun.
    used = x.detach().abs().amax((0, 1)).float().numpy() != 0
    rows, columns = used.any(1).nonzero()[0], used.any(0).nonzero()[0]
    if not len(rows):
        return None
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
