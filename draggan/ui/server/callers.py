"""Who calls: whose budget a request counts in, whether it is this machine's own user, and whether anybody listens."""

from __future__ import annotations

import ipaddress
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draggan.ui.server.listeners import Listeners

__all__ = ["Caller", "address_of", "caller_of", "is_own", "is_own_user", "uploader_of"]


@dataclass(kw_only=True)
class Caller:
    """The one who sent a request.

    Attributes:
        visitor: whose budget it counts in.
        own_user: whether the request comes from this machine's own user, as far as the system tells.
        tab: name of the browser tab; empty for a program without one.
        uploader: whose uploads its files count as, as far as an upload tells: an upload names no tab.
        event: what the server calls this request.
    """

    visitor: str
    own_user: bool = True
    tab: str = ""
    uploader: str = ""
    event: str = ""
    listeners: Listeners | None = None
    since: float = field(default_factory=time.monotonic)

    def unheard(self) -> float:
        """Seconds for which nobody has listened to the answer."""
        return 0.0 if self.listeners is None else self.listeners.unheard((self.tab, self.event), self.since)


def caller_of(request: Any) -> Caller | None:
    """The caller that the server has found for a ``gr.Request``; None where no server stands before the page."""
    scope = getattr(getattr(request, "request", None), "scope", None)
    return scope.get("state", {}).get("caller") if isinstance(scope, dict) else None


def uploader_of(request: Any) -> str:
    """Whose uploads the files of a ``gr.Request``'s caller count as."""
    caller = caller_of(request)
    return "" if caller is None else caller.uploader


def is_own(request: Any) -> bool:
    """Whether a ``gr.Request`` comes from this machine's own user; what came over no network does."""
    caller = caller_of(request)
    return caller.own_user if caller is not None else getattr(request, "request", None) is None


def address_of(client: str) -> str:
    """What counts as one address: for IPv6 the 64 bits that belong to one household."""
    try:
        address = ipaddress.ip_address(client)
    except ValueError:
        return client
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return client


def is_own_user(client: tuple[str, int] | None, server: tuple[str, int | None] | None) -> bool:
    """Whether the other end of a connection on this machine belongs to the user who runs us.

    Linux says whose a connection is; where no system does, everybody on this machine counts as its user.
    """
    if client is None or not Path("/proc/net/tcp").exists():
        return client is not None
    port = f":{client[1]:04X}"
    there = f":{server[1]:04X}" if server and server[1] else ""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            _, near, far, state, *rest = line.split()
            # 01: established. Our own end has the ports the other way round.
            if near.endswith(port) and far.endswith(there) and state == "01":
                return int(rest[3]) == os.getuid()
    return False
