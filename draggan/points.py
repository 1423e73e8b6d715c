"""The one check of points and masks that come from outside: from the page, the command line, a file or a program."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from draggan.errors import MaskError, PointError

__all__ = ["check_mask", "check_points"]


def check_points(kind: str, points: Any, image_size: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
    """Points as float64, image pixels ``(x, y)``; ``[0, 2]`` where there are none.

    Args:
        kind: what a message calls them: "handle" or "target".
        points: pairs (x, y) in any sequence or array.
        image_size: height and width of the picture.

    Raises:
        PointError: they are not pairs of numbers, not finite, or outside the picture. It names the first bad one.
    """
    try:
        array = np.array(points, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as e:
        raise PointError(f"the {kind} points are not numbers; give pairs (x, y) of image pixels") from e
    if array.size == 0:
        return np.zeros((0, 2))
    if array.ndim != 2 or array.shape[1] != 2:
        raise PointError(f"the {kind} points have shape {list(array.shape)}; give [n, 2], pairs (x, y) of image pixels")
    height, width = image_size
    for i, (x, y) in enumerate(array):
        if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
            raise PointError(
                f"{kind} {i + 1} at ({x:g}, {y:g}) is outside the picture; x goes from 0 to {width - 1}, "
                f"y from 0 to {height - 1}"
            )
    return array


def check_mask(mask: Any, image_size: tuple[int, int]) -> Bool[np.ndarray, "height width"]:
    """A copy of the mask, True where the picture may change. It may be True nowhere: callers say what that means.

    Args:
        image_size: height and width of the picture.

    Raises:
        MaskError: it is not bool, or of another size than the picture.
    """
    array = np.array(mask)
    if array.dtype != bool or array.shape != tuple(image_size):
        raise MaskError(
            f"the mask is {array.dtype} of shape {list(array.shape)}; it must be bool {list(image_size)} "
            "like the picture, True where it may change"
        )
    return array
