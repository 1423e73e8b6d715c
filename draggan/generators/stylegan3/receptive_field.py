"""Which cells of a StyleGAN3 layer's input its output cells depend on: the arithmetic of convolution and filters.

The bottom of the stack ``receptive_field <- networks <- windows <- generator``. Along one axis, with the layer's
factors u and d, filters of n_u and n_d taps, and k x k kernel:

* output o is made of the samples ``o d .. o d + n_d - 1`` at the higher rate;
* sample j is made of the cells ``ceil((j + a - n_u + 1) / u) .. floor((j + a) / u)`` of the convolution's result, where
  ``a = n_u - 1 - padding``;
* cell c of that result, which reaches ``k - 1`` cells beyond the input, is made of the input cells ``c - k + 1 .. c``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

__all__ = ["ReceptiveField"]


@dataclass(frozen=True)
class ReceptiveField:
    """What of a layer decides which cells depend on which; the same along both axes.

    Attributes:
        before, after: cells of the square maps that it takes and gives.
        kernel: of the convolution.
        up, down: factors of its filters.
        up_taps, down_taps: lengths of its filters.
        offset: a in the formulas above.
    """

    before: int
    after: int
    kernel: int
    up: int
    down: int
    up_taps: int
    down_taps: int
    offset: int

    @property
    def convolved(self) -> int:
        """Cells of the convolution's result."""
        return self.before + self.kernel - 1

    @property
    def period(self) -> int:
        """Windows that begin a multiple of this many cells apart see the filters alike."""
        return self.up // math.gcd(self.up, self.down)

    def cells(self, first: int, last: int, offset: int | None = None) -> tuple[int, int]:
        """First and last cell of the convolution's result that the outputs ``first .. last`` depend on."""
        a = self.offset if offset is None else offset
        low = -((self.up_taps - 1 - a - first * self.down) // self.up)
        return low, (last * self.down + self.down_taps - 1 + a) // self.up

    def padding(self, offset: int, outputs: int, cells: int) -> tuple[int, int]:
        """Padding before and behind so that ``cells`` cells give ``outputs`` outputs at this offset."""
        low = self.up_taps - 1 - offset
        return low, (outputs - 1) * self.down + self.down_taps + self.up_taps - 1 - cells * self.up - low
