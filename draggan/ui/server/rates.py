"""How often a visitor may call, how much of it may come at once, and how many of the calls may wait for an answer."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from draggan.config import Limits
from draggan.errors import LimitError

__all__ = ["Rates"]

_BURST = 0.25  # share of a minute's calls that may come at once
_PATIENCE = 60.0  # seconds after which a call whose answer nobody fetched gives its place back
_VISITORS = 10_000  # remembered at once
# Requests of the largest size that may be on their way at once, of one visitor and of all.
_COMING, _ALL_COMING = 4, 64


@dataclass
class _Account:
    calls: float  # that may come now
    at: float
    places: dict[str, float] = field(default_factory=dict)  # calls without an answer, and since when
    tabs: int = 0
    streams: int = 0
    coming: int = 0  # bytes of requests that have not come whole


class Rates:
    """Counts calls, places and open tabs, by visitor and in all.

    Args:
        limits: what is allowed.
        clock: seconds, ever increasing.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits, self._clock = limits, clock
        self._accounts: OrderedDict[str, _Account] = OrderedDict()
        self._all = _Account(_BURST * limits.all_calls_per_minute, clock())
        self._lock = threading.Lock()

    def call(self, visitor: str) -> None:
        """One call, where there is a place left for its answer (`begin`).

        Raises:
            LimitError: one too many.
        """
        with self._lock:
            account = self._account(visitor)
            self._charge(account, 1.0)
            self._forget(account)
            if len(account.places) >= self._limits.places:
                raise LimitError(
                    f"{len(account.places)} of your calls wait for an answer, and {self._limits.places} at once are "
                    "allowed here; fetch the answers first"
                )

    def ask(self, visitor: str, weight: float = 1.0) -> None:
        """Something that takes no place: answered at once, or a word in a conversation; as so many calls.

        Raises:
            LimitError: too often.
        """
        with self._lock:
            self._charge(self._account(visitor), weight)

    def come(self, visitor: str, more: int) -> None:
        """So many more bytes of a request have come; with a minus: it is whole, or nobody waits for the rest.

        Raises:
            LimitError: too much is on its way at once.
        """
        with self._lock:
            account = self._account(visitor)
            for counted, most in ((account, _COMING), (self._all, _ALL_COMING)):
                if more > 0 and counted.coming + more > most * self._limits.call_bytes:
                    raise LimitError("too much comes in at this moment; send one request after the other")
            account.coming += more
            self._all.coming += more

    def begin(self, visitor: str, event: str) -> None:
        """A call was taken, and waits for its answer under that name."""
        with self._lock:
            self._account(visitor).places[event] = self._clock()

    def end(self, visitor: str, event: str) -> None:
        """The answer was given, or nobody waits for it any more."""
        with self._lock:
            account = self._accounts.get(visitor)
            if account is not None:
                account.places.pop(event, None)

    def open_tab(self, visitor: str) -> None:
        """A tab was opened.

        Raises:
            LimitError: one too many.
        """
        with self._lock:
            account = self._account(visitor)
            if account.tabs >= self._limits.tabs:
                raise LimitError(f"{account.tabs} of your tabs show this page, as many as are allowed; close one")
            if self._all.tabs >= self._limits.all_tabs:
                raise LimitError("too many people have this page open at this moment; try again later")
            account.tabs += 1
            self._all.tabs += 1

    def close_tab(self, visitor: str) -> None:
        """It was closed."""
        with self._lock:
            self._account(visitor).tabs -= 1
            self._all.tabs -= 1

    def open_stream(self, visitor: str) -> None:
        """Somebody listens to answers: a tab does all the time, a program for each of its calls.

        Raises:
            LimitError: one too many.
        """
        limits = self._limits
        with self._lock:
            account = self._account(visitor)
            if account.streams >= limits.tabs + limits.places:
                raise LimitError(f"{account.streams} of your connections wait for answers, as many as are allowed")
            if self._all.streams >= 2 * limits.all_tabs:
                raise LimitError("too many people wait for answers at this moment; try again later")
            account.streams += 1
            self._all.streams += 1

    def close_stream(self, visitor: str) -> None:
        """They stop listening."""
        with self._lock:
            self._account(visitor).streams -= 1
            self._all.streams -= 1

    def _charge(self, account: _Account, weight: float) -> None:
        per_minute = self._limits.calls_per_minute
        if not self._take(account, per_minute, weight):
            raise LimitError(
                f"{per_minute} calls a minute are allowed here for one visitor, and yours came faster; "
                f"wait {60 / per_minute:.1f} s before the next"
            )
        if not self._take(self._all, self._limits.all_calls_per_minute, weight):
            account.calls += weight
            raise LimitError("too many people ask for something at this moment; wait a few seconds and try again")

    def _account(self, visitor: str) -> _Account:
        account = self._accounts.get(visitor)
        if account is None:
            account = self._accounts[visitor] = _Account(_BURST * self._limits.calls_per_minute, self._clock())
            for name, other in list(self._accounts.items()):
                if len(self._accounts) <= _VISITORS:
                    break
                if not (other.tabs or other.places or other.streams or other.coming) and other is not account:
                    del self._accounts[name]
        self._accounts.move_to_end(visitor)
        return account

    def _take(self, account: _Account, per_minute: int, weight: float) -> bool:
        now = self._clock()
        account.calls = min(account.calls + (now - account.at) * per_minute / 60, max(_BURST * per_minute, 1.0))
        account.at = now
        if account.calls < weight:
            return False
        account.calls -= weight
        return True

    def _forget(self, account: _Account) -> None:
        """Places of calls that nobody has asked about."""
        now = self._clock()
        for event, since in list(account.places.items()):
            if now - since > _PATIENCE:
                del account.places[event]
