"""How well a model knows a photo, in a word, from thresholds that were calibrated (benchmarks/inversion.md)."""

from __future__ import annotations

from typing import Literal

__all__ = ["FOREIGN_BELOW", "VERDICTS", "VERY_CLOSE_FROM", "VERY_CLOSE_UNTUNED", "Verdict", "verdict_of"]

Verdict = Literal["very close", "recognisable", "foreign"]

VERDICTS: dict[Verdict, str] = {
    "very close": "Very close: this model draws your photo nearly as it is.",
    "recognisable": "Recognisable: the photo is drawn, with some of its details missing or different.",
    "foreign": "This model does not know such pictures. What you drag may fall apart; try another model or crop.",
}
"""What people are told."""

FOREIGN_BELOW = 21.0
"""dB before the weights are tuned: afterwards nearly everything is drawn nearly as it is, and falls apart in a drag."""
VERY_CLOSE_FROM = 30.0
"""dB once they are."""
VERY_CLOSE_UNTUNED = 27.0
"""dB where they are not."""


def verdict_of(latent_psnr: float, psnr: float | None = None) -> Verdict:
    """The verdict.

    Args:
        latent_psnr: of what the model draws before its weights are tuned, against the photo, dB.
        psnr: likewise after that; None: they are not.
    """
    if latent_psnr < FOREIGN_BELOW:
        return "foreign"
    close = latent_psnr >= VERY_CLOSE_UNTUNED if psnr is None else psnr >= VERY_CLOSE_FROM
    return "very close" if close else "recognisable"
