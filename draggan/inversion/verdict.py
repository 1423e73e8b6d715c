"""How well a model knows a photo, in a word, from thresholds that were calibrated (benchmarks/inversion.md)."""

from __future__ import annotations

from typing import Literal

__all__ = ["FOREIGN_BELOW", "VERDICTS", "VERY_CLOSE_FROM", "Verdict", "verdict_of"]

Verdict = Literal["very close", "recognisable", "foreign"]

VERDICTS: dict[Verdict, str] = {
    "very close": "Very close: this model draws your photo nearly as it is.",
    "recognisable": "Recognisable: the photo is drawn, with some of its details missing or different.",
    "foreign": "This model does not know such pictures. What you drag may fall apart; try another model or crop.",
}
"""What people are told."""

VERY_CLOSE_FROM = 24.0
FOREIGN_BELOW = 20.5
"""dB before the weights are tuned: afterwards nearly everything is drawn nearly as it is, and falls apart in a drag."""


def verdict_of(latent_psnr: float, unusual: float) -> Verdict:
    """The verdict.

    Args:
        latent_psnr: of what the model draws before its weights are tuned, against the photo, dB.
        unusual: how far its latent is from the mean, in spreads of the model's latents.
    """
    if latent_psnr < FOREIGN_BELOW:
        return "foreign"
    return "very close" if latent_psnr >= VERY_CLOSE_FROM else "recognisable"
