"""What a person is told before and during the download of a model, on the page and on a terminal alike."""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from draggan.checkpoints.catalogue import ModelEntry

__all__ = ["DownloadProgress", "Terms", "megabytes", "offer", "terms_of"]


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What a person should know before a download.

    Attributes:
        bytes: of the file; None: unknown.
        source: the hosts it comes from.
        licence: of the weights, as far as known.
        notes: anything else.
        by_hand: how to get it without us; not empty where we cannot fetch it.
    """

    bytes: int | None
    source: str
    licence: str
    notes: str = ""
    by_hand: str = ""


def terms_of(entry: ModelEntry, *, ask: bool) -> Terms:
    """What the catalogue and, if asked, the server say; a server that does not answer leaves the size unknown."""
    return Terms(
        bytes=entry.download_size() if ask else entry.bytes,
        source=", else ".join(entry.hosts()) or urlsplit(entry.page).hostname or "",
        licence=entry.licence,
        notes=entry.notes,
        by_hand="" if entry.urls else entry.advice(),
    )


def offer(title: str, terms: Terms, *, asking: bool = False, destination: str = "") -> str:
    """The terms as text.

    Args:
        title: of the model.
        asking: the server is being asked for the size.
        destination: the file it will be, where that is worth a line.
    """
    if terms.by_hand:
        return f"{title} cannot be downloaded from here.\n\n{terms.by_hand}\n\nTerms: {terms.licence}."
    unknown = "Size: asking the server …" if asking else "Size unknown; usually a few hundred MB"
    size = unknown if terms.bytes is None else f"Size: {megabytes(terms.bytes)}"
    lines = [
        f"{title} is not on this machine yet.\n",
        size,
        f"From: {terms.source}",
        f"Terms of the weights: {terms.licence}",
        terms.notes,
        f"To: {destination}" if destination else "",
    ]
    return "\n".join(line for line in lines if line)


class DownloadProgress:
    """How far a download is. Call it with bytes done and in all (None: unknown); may be read from another thread."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self._first: int | None = None  # bytes that were there already
        self._done = 0
        self._total: int | None = None

    def __call__(self, done: int, total: int | None) -> None:
        if self._first is None:
            self._first = done
        self._done, self._total = done, total

    @property
    def fraction(self) -> float:
        """From 0 to 1; 0 as long as nobody knows how much there is."""
        return min(self._done / self._total, 1.0) if self._total else 0.0

    @property
    def text(self) -> str:
        """In words: how much has come, of how much, how fast."""
        new = self._done - (self._first or 0)
        if not new:
            # A server's first word may be long in coming; so may its first byte.
            return "Connecting …"
        text = megabytes(self._done)
        if self._total is not None:
            text = f"{self._done / 1e6:.0f} of {megabytes(self._total)}"
        return f"{text} · {megabytes(new / max(time.monotonic() - self._started, 0.1))}/s"


def megabytes(count: float) -> str:
    """A number of bytes for people."""
    return f"{count / 1e6:.1f} MB"
