"""Photos that people have sent: chosen in a tab, and those whose pictures are worked on. In memory alone."""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar
from weakref import WeakValueDictionary

from draggan.errors import PhotoError
from draggan.inversion import Crop, Photo, read_photo
from draggan.provenance.credentials import TYPES, Ingredient
from draggan.session_file import PhotoPlace
from draggan.ui.reading_turns import ReadingTurns

__all__ = ["KEPT", "OpenedPhoto", "Photos", "SentPhoto"]

_MOST = 64  # of each kind; files, not pixels, which are many times as much
_Name = TypeVar("_Name", bound=Hashable)
KEPT = 6 * 3600.0
"""Seconds since a photo was last used, as long as a session is kept."""


@dataclass(frozen=True, kw_only=True)
class SentPhoto:
    """A photo's file as it came.

    Attributes:
        name: what its owner calls it.
    """

    data: bytes
    name: str

    def read(self) -> Photo:
        """Its pixels.

        Raises:
            PhotoError: it cannot be read.
        """
        return read_photo(self.data, self.name)


@dataclass(frozen=True, kw_only=True)
class OpenedPhoto:
    """A photo whose picture is worked on, and where on it the picture belongs.

    Attributes:
        kind: of its file, such as "jpeg".
        place: the crop once more, with what tells the photo from others.
    """

    sent: SentPhoto
    crop: Crop
    kind: str
    place: PhotoPlace

    @classmethod
    def of(cls, sent: SentPhoto, photo: Photo, crop: Crop) -> OpenedPhoto:
        """A photo that was read."""
        corner, right, down = ((float(x), float(y)) for x, y in crop.values())
        place = PhotoPlace(crop=(corner, right, down), photo_sha256=photo.sha256, photo_size=photo.size)
        return cls(sent=sent, crop=crop, kind=photo.kind, place=place)

    @property
    def ingredient(self) -> Ingredient | None:
        """The photo as content credentials name it; None: they know no such files."""
        return Ingredient(kind=self.kind, data=self.sent.data) if self.kind in TYPES else None


@dataclass(frozen=True)
class _Chosen:
    owner: str
    since: float
    sent: SentPhoto


@dataclass(frozen=True)
class _Held:
    owner: str
    since: float
    opened: OpenedPhoto | None
    place: PhotoPlace | None


_Kind = TypeVar("_Kind", _Chosen, _Held)


class Photos:
    """All of them. A photo goes to whoever has sent it alone: others may have its tuned weights from a session's file
    (`draggan.engine.tunings`), which is a crop and not the whole of it.

    Args:
        forget: gives up the tuned weights of a photo that is not kept any longer.
        clock: seconds, ever increasing.

    Attributes:
        turns: in which photos are read. One of a few kilobytes may have the pixels of a large one.
    """

    def __init__(self, forget: Callable[[str], None], clock: Callable[[], float] = time.monotonic) -> None:
        self._forget, self._clock = forget, clock
        # The frame is let go, moved and let go again, and then the photo is opened: the last of them has a place too.
        self.turns = ReadingTurns(places=3)
        self._chosen: OrderedDict[str, _Chosen] = OrderedDict()
        self._held: OrderedDict[tuple[str, str], _Held] = OrderedDict()
        self._lock = threading.Lock()
        # Entries live as long as somebody holds them or waits for them.
        self._looks: WeakValueDictionary[str, threading.RLock] = WeakValueDictionary()

    @contextmanager
    def look(self, digest: str) -> Iterator[None]:
        """Whether a tuning may be here is decided by one at a time; others wait for what comes of it."""
        with self._lock:
            lock = self._looks.setdefault(digest, threading.RLock())
        with lock:
            yield

    def choose(self, tab: str, sent: SentPhoto, owner: str) -> None:
        """This is the photo that a visitor's tab shows now. Where there are too many, whoever has most loses one."""
        with self._lock:
            self._chosen[tab] = _Chosen(owner, self._clock(), sent)
            self._chosen.move_to_end(tab)
        self.sweep()

    def chosen(self, tab: str) -> SentPhoto:
        """The photo that a tab shows.

        Raises:
            PhotoError: none, or it was given up for others.
        """
        with self._lock:
            chosen = self._used(self._chosen, tab)
        if chosen is None:
            raise PhotoError("there is no photo yet; choose one, or choose it again")
        return chosen.sent

    def is_chosen(self, tab: str, sent: SentPhoto) -> bool:
        """Whether a tab still shows that photo."""
        with self._lock:
            return tab in self._chosen and self._chosen[tab].sent is sent

    def leave(self, tab: str) -> None:
        """The tab was closed, or its visitor no longer agrees."""
        with self._lock:
            self._chosen.pop(tab, None)

    def keep(self, digest: str, opened: OpenedPhoto, owner: str) -> None:
        """The photo of that tuning is worked on by that visitor from now on."""
        self._hold(digest, opened, opened.place, owner)

    def hold(self, digest: str, place: PhotoPlace | None, owner: str) -> None:
        """A tuning has come to a visitor without its photo; where on that it belongs, if that is known. It changes
        nothing for others, and nothing for whoever has opened the photo."""
        with self._lock:
            known = self._held.get((owner, digest)) or _Held(owner, 0.0, None, None)
        self._hold(digest, known.opened, known.place if known.opened else place or known.place, owner)

    def opened(self, digest: str, owner: str) -> OpenedPhoto | None:
        """The photo of a tuning, if it is still here and that visitor's."""
        with self._lock:
            found = self._used(self._held, (owner, digest))
            return None if found is None else found.opened

    def place(self, digest: str, owner: str) -> PhotoPlace | None:
        """Where on its photo the picture of a tuning belongs, as far as that visitor knows; after a reload it may be
        another's tab that does."""
        with self._lock:
            found = self._used(self._held, (owner, digest))
            if found is not None and found.place is not None:
                return found.place
            return next((held.place for (_, name), held in self._held.items() if name == digest and held.place), None)

    def _hold(self, digest: str, opened: OpenedPhoto | None, place: PhotoPlace | None, owner: str) -> None:
        with self._lock:
            self._held[owner, digest] = _Held(owner, self._clock(), opened, place)
            self._held.move_to_end((owner, digest))
        self.sweep()

    def sweep(self) -> None:
        """Give up what was not used for `KEPT` seconds, and what there is too much of."""
        with self._lock:
            before, held = self._clock() - KEPT, {name for _, name in self._held}
            _tidy(self._chosen, before)
            _tidy(self._held, before)
            forgotten = held - {name for _, name in self._held}
        for name in forgotten:
            self._forget(name)

    def _used(self, kept: OrderedDict[_Name, _Kind], name: _Name) -> _Kind | None:
        """One of them, used now. With the lock held."""
        if name in kept:
            kept[name] = replace(kept[name], since=self._clock())
        return kept.get(name)


def _tidy(kept: OrderedDict[_Name, _Kind], before: float) -> None:
    for name in [name for name, one in kept.items() if one.since < before]:
        del kept[name]
    for name in _too_many(kept):
        del kept[name]


def _too_many(held: Mapping[_Name, _Chosen | _Held]) -> list[_Name]:
    """What has to go so that no more than `_MOST` stay: each time the oldest of whoever has most."""
    there, gone = {name: one.owner for name, one in held.items()}, []
    while len(there) > _MOST:
        ((most, _),) = Counter(there.values()).most_common(1)
        name = next(name for name, owner in there.items() if owner == most)
        del there[name]
        gone.append(name)
    return gone
