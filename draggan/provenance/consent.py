"""What people agree to before a file of theirs is taken, and who has agreed.

The page asks once a visit. Having agreed, a visit has a *token*, signed by this installation, which its browser keeps
and shows again after a reload or a restart of the server; nothing about who it is stands in it. Whether somebody has
agreed is looked up here, by the server, whatever a page shows.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from draggan.errors import ConsentError

__all__ = ["MODEL", "PHOTO", "TEXTS", "Consents", "Text"]

_MOST_VISITS = 20_000  # remembered at once
_TOKEN = re.compile(r"([0-9a-f]{16})\.([a-z0-9 ]{1,60})\.([0-9a-f]{64})")


@dataclass(frozen=True, kw_only=True)
class Text:
    """A sentence to agree to.

    Attributes:
        name: by which it is recorded.
        version: raised with every change of the words; earlier agreements do not count any more then.
        words: the sentence, said by the person who agrees.
    """

    name: str
    version: int
    words: str

    @property
    def key(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


MODEL = Text(
    name="model",
    version=1,
    words="I may use this file, and will not make pictures with it that deceive about real people or show them in a "
    "sexual way.",
)
PHOTO = Text(
    name="photo",
    version=2,
    words="This is me, or I have the permission of everybody in it; nobody in it is a minor; and what I make of it "
    "will be neither sexual nor deceptive.",
)
TEXTS = {text.name: text for text in (MODEL, PHOTO)}
"""All of them, by name."""


@dataclass
class _Visit:
    name: str  # random, for the record
    uploader: str  # whose uploads the server counts it as
    agreed: set[str] = field(default_factory=set)


class Consents:
    """Who has agreed to what.

    Args:
        key: a secret of this installation; asked for when it is needed first.
        record: writes an agreement down: key of the text, random name of the visit. What it raises undoes it.
    """

    def __init__(self, key: Callable[[], bytes], record: Callable[[str, str], object]) -> None:
        self._key, self._record = key, record
        self._visits: OrderedDict[str, _Visit] = OrderedDict()
        self._lock = threading.Lock()

    def agree(self, visit: str, text: Text, *, uploader: str = "") -> str:
        """Somebody has agreed; returns a token that says so.

        Args:
            visit: what the server knows the visit by, such as the name of its tab.
            uploader: whose uploads the server counts it as, such as an address. Not recorded.
        """
        known = self._visit(visit, uploader)
        if text.key not in known.agreed:
            self._record(text.key, known.name)
            with self._lock:
                known.agreed.add(text.key)
        return self._token(known.name, text)

    def remember(self, visit: str, token: object, *, uploader: str = "") -> frozenset[str]:
        """What a token says that a visit has agreed to: names of texts. Nothing of it is believed that we did not sign.

        Args:
            token: as a browser has kept it, or anything.
        """
        found = _TOKEN.fullmatch(token) if isinstance(token, str) else None
        if found is not None:
            name, key, _ = found.groups()
            for text in TEXTS.values():
                if text.key == key and hmac.compare_digest(str(token), self._token(name, text)):
                    known = self._visit(visit, uploader)
                    with self._lock:
                        known.name = name
                        known.agreed.add(key)
        return self.of(visit)

    def withdraw(self, visit: str, text: Text) -> None:
        """Somebody has changed their mind."""
        with self._lock:
            if visit in self._visits:
                self._visits[visit].agreed.discard(text.key)

    def of(self, visit: str) -> frozenset[str]:
        """What a visit has agreed to: names of texts, in the words they have now."""
        with self._lock:
            known = self._visits.get(visit)
            return frozenset() if known is None else frozenset(t.name for t in TEXTS.values() if t.key in known.agreed)

    def check(self, visit: str, text: Text) -> None:
        """See that a visit has agreed.

        Raises:
            ConsentError: it has not.
        """
        if text.name not in self.of(visit):
            raise ConsentError(f"agree first, in the page or by the endpoint /consent: “{text.words}”")

    def has_agreed(self, uploader: str) -> bool:
        """Whether any visit from there has agreed to anything."""
        with self._lock:
            return any(known.uploader == uploader and known.agreed for known in self._visits.values())

    def name_of(self, visit: str) -> str:
        """The random name under which a visit is recorded."""
        return self._visit(visit, None).name

    def _visit(self, visit: str, uploader: str | None) -> _Visit:
        with self._lock:
            known = self._visits.setdefault(visit, _Visit(secrets.token_hex(8), uploader or ""))
            if uploader is not None:
                known.uploader = uploader
            self._visits.move_to_end(visit)
            while len(self._visits) > _MOST_VISITS:
                self._visits.popitem(last=False)
            return known

    def _token(self, name: str, text: Text) -> str:
        said = f"{name}.{text.key}"
        return f"{said}.{hmac.new(self._key(), said.encode(), hashlib.sha256).hexdigest()}"
