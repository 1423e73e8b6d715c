"""What one file may use up while it is read, and how a reader says that a file is wrong."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from draggan.errors import CheckpointError, UnsafeCheckpoint

__all__ = ["Budget", "damaged", "refuse", "refuse_object", "show"]

# Fifteen times what the largest published checkpoint takes (1024 px, G, D and G_ema: 60 thousand).
MAX_STEPS = 1_000_000
# Names, numbers as text, embedded source (50 kB per module in published files).
MAX_TEXT = 4 << 20
MAX_ALL_TEXT = 64 << 20
SECONDS = 8.0


def damaged(what: str) -> CheckpointError:
    """The error for a file that breaks its own format."""
    return CheckpointError(f"the file is damaged: {what}; get it again from its source")


def refuse(what: str) -> UnsafeCheckpoint:
    """The error for a file that wants more than to be read."""
    return UnsafeCheckpoint(f"refused: {what}. Weights do not need this; nothing in the file was run")


def refuse_object(class_name: str, what: str = "The file") -> UnsafeCheckpoint:
    """The error for a whole object of somebody's program in the place of weights, with what to do."""
    return UnsafeCheckpoint(
        f"refused: it asks for '{class_name}'. {what} is a whole object of the program that wrote it, which cannot be "
        "used without running that program; nothing in the file was run. Where the program is, save the weights alone: "
        "torch.save(model.state_dict(), 'weights.pt')"
    )


def show(value: object) -> str:
    """A name from a file, short enough and safe to print."""
    return ascii(value)[:120] if isinstance(value, (str, int, float, bool, type(None))) else type(value).__name__


@dataclass
class Budget:
    """What one file may use up, nested pickles included."""

    steps: int = MAX_STEPS
    text: int = MAX_ALL_TEXT
    # Bytes of all tensors. Only repeated ones can be much more than the file.
    numbers: int = 16 << 20
    deadline: float = field(default_factory=lambda: time.monotonic() + SECONDS)

    def step(self, count: int = 1) -> None:
        self.steps -= count
        if self.steps < 0:
            raise refuse(f"more than {MAX_STEPS} steps to read one file")
        if count != 1 or not self.steps & 4095:
            self.check_time()

    def check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise CheckpointError(f"reading took longer than {SECONDS:g} s; the file is damaged or made to be slow")

    def take_numbers(self, count: int) -> None:
        self.numbers -= count
        if self.numbers < 0:
            raise refuse("tensors that together are much larger than their file")
        self.check_time()

    def take_text(self, length: int) -> None:
        self.text -= length
        if length > MAX_TEXT or self.text < 0:
            raise refuse(f"{length} bytes of text, more than names and settings take")
