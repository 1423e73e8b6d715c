"""What is measured. A protocol is a numbered sequence of tasks, the same for every solver, and figures of each.

Task ``i`` depends on the subject, the protocol's settings and ``i`` alone, so that rows of a table share their cases
and a measurement can be extended later. A protocol takes any `DragConfig` and never looks inside, but for the limits
of steps that belong to a published procedure; and any `Method`, of which it asks nothing but steps.

For every drag it also reports how far it went in the distribution of latents: root mean square of whitened coordinates
(`Whitening`), over all rows, before, after and between.
"""

from __future__ import annotations

from draggan.errors import ConfigError
from draggan.evaluation.protocols.cycle import Cycle
from draggan.evaluation.protocols.figures import Dragged, drag
from draggan.evaluation.protocols.landmarks import Landmarks
from draggan.evaluation.protocols.mask import Mask, around
from draggan.evaluation.protocols.protocol import ALL, DRAG, Case, Column, Method, Protocol, Task
from draggan.evaluation.protocols.pulls import TRULY, Pairs, Pulls, PullsApart
from draggan.evaluation.protocols.quality import Quality
from draggan.evaluation.protocols.reconstruction import Reconstruction
from draggan.evaluation.protocols.there_and_back import Instructions, Roundtrip
from draggan.evaluation.subject import Subject

__all__ = [
    "ALL",
    "DRAG",
    "TRULY",
    "Case",
    "Column",
    "Cycle",
    "Dragged",
    "Instructions",
    "Landmarks",
    "Mask",
    "Method",
    "Pairs",
    "Protocol",
    "Pulls",
    "PullsApart",
    "Quality",
    "Reconstruction",
    "Roundtrip",
    "Task",
    "around",
    "check",
    "drag",
    "possible",
]


def possible(subject: Subject) -> dict[str, str]:
    """Every protocol's name and why it cannot be run on this subject (empty if it can)."""
    protocols: tuple[Protocol, ...] = (
        Landmarks(),
        Pulls(),
        PullsApart(),
        Pairs(),
        Reconstruction(),
        Roundtrip(),
        Cycle(),
        Mask(),
        Instructions(instructions=()),
        Quality(),
    )
    return {p.name: p.missing(subject) for p in protocols}


def check(protocol: Protocol, subject: Subject) -> None:
    """Nothing, if the protocol can be run on this subject.

    Raises:
        ConfigError: it cannot; the message says why, and which protocols can.
    """
    why = protocol.missing(subject)
    if why:
        rest = ", ".join(name for name, missing in possible(subject).items() if not missing)
        raise ConfigError(f"protocol '{protocol.name}' cannot be run on {subject.name}: {why}; possible are {rest}")
