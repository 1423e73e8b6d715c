"""Lips, eyelids and ears: pulls that the model can do, because its scene shows the same picture with that part moved.

A picture of a built-in model and the one of the same noise in which a single parameter of the scene is another (the
mouth opens, the lids close, the ears tilt); a pair of landmarks of the first is pulled to where they are in the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from draggan.evaluation.protocols import TRULY, Pairs, Task
from draggan.evaluation.subject import Subject
from draggan.scenes import SCENES

__all__ = ["PARTS", "Parts"]

PARTS: dict[str, dict[str, tuple[str, tuple[tuple[str, str], ...]]]] = {
    "cat": {
        "lips": ("mouth_open", (("upper_lip", "lower_lip"),)),
        "eyelids": ("eye_open", (("left_eye_upper", "left_eye_lower"), ("right_eye_upper", "right_eye_lower"))),
        "ears": ("ear_tilt", (("left_ear_tip", "right_ear_tip"),)),
    },
    "face": {
        "lips": ("mouth_open", (("upper_lip", "lower_lip"),)),
        "eyelids": ("eye_open", (("left_eye_upper", "left_eye_lower"), ("right_eye_upper", "right_eye_lower"))),
        "ears": ("ears", (("left_ear", "right_ear"),)),
    },
}
"""By model and part: the parameter of the scene that moves it, and its pairs of landmarks."""

# As values of the scene's normal noise: about the lower and the upper tenth of the parameter's range.
_LITTLE, _MUCH = -1.25, 1.25
# A part whose landmarks go less far than this, as a share of the width, is not pulled: it would be there already.
_LEAST = 0.04


@dataclass(frozen=True, kw_only=True)
class Parts(Pairs):
    """One part of a picture moved as its scene can move it; true is where the landmark network finds the landmarks.

    Attributes:
        part: a key of `PARTS` of the model.
    """

    part: str = "lips"

    @property
    def title(self) -> str:
        """See `Protocol.title`."""
        return self.part

    def missing(self, subject: Subject) -> str:
        """See `Protocol.missing`."""
        if self.part not in PARTS.get(subject.name, {}):
            return f"its pictures have no {self.part}"
        return super().missing(subject)

    def settings(self) -> dict[str, Any]:
        """See `Protocol.settings`."""
        return {"part": self.part, "first_seed": self.first_seed}

    def task(self, subject: Subject, index: int) -> Task | str:
        """See `Protocol.task`."""
        seed, random = self.first_seed + index, self.random(index)
        parameter, pairs = PARTS[subject.name][self.part]
        names = pairs[int(random.integers(len(pairs)))]
        z = subject.noise(seed)
        other = _with(z, SCENES[subject.name].position(parameter))
        ws, there = subject.latent(z), subject.latent(other)
        (found, good), (wanted, good_there) = (
            subject.landmarks(noise, subject.picture(latent)) for noise, latent in ((z, ws), (other, there))
        )
        chosen = [subject.names.index(name) for name in names]
        if not (good & good_there)[chosen].all():
            return "not visible in both pictures"
        for noise, points in ((z, found), (other, wanted)):
            true = subject.truth(noise, names)
            if true is not None and (np.linalg.norm(points[chosen] - true[0], axis=1) > TRULY * subject.size[1]).any():
                return "the landmark network does not find them"
        if np.linalg.norm(wanted - found, axis=1)[chosen].max() < _LEAST * subject.size[1]:
            return "hardly moves"
        return Task(
            seed=seed,
            ws=ws,
            handles=found[chosen].astype(np.float32),
            targets=wanted[chosen].astype(np.float32),
            names=names,
            z_other=other,
            other=subject.picture(there),
            found=found,
        )


def _with(z: Float[Tensor, "1 z_dim"], position: int) -> Float[Tensor, "1 z_dim"]:
    """The noise of the same scene with much of one parameter in place of little, or the other way round.

    A scene divides its noise by its root mean square; what is changed here counts after that, and moves all other
    parameters by a few percent of their spread.
    """
    unit = z / z.square().mean().sqrt()
    changed = unit.clone()
    changed[0, position] = _MUCH if float(unit[0, position]) < 0 else _LITTLE
    return torch.as_tensor(changed, dtype=z.dtype)
