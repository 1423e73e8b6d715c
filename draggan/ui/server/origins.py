"""Whether a request comes from the page itself, from a program, or from somebody else's page.

A page of another origin can make a browser send requests here, and with a name of its own that it lets point to this
machine (DNS rebinding) it can even read the answers. So the name that was asked for must be one of ours, and whatever
changes something must come from our own page or from no page at all.
"""

from __future__ import annotations

from collections.abc import Mapping

from draggan.ui.server.exposure import Exposure, host_name

__all__ = ["why_not"]

_HARMLESS = ("GET", "HEAD")


def why_not(exposure: Exposure, method: str, headers: Mapping[str, str]) -> str:
    """Why a request is refused, as a sentence; empty: it is not.

    Args:
        headers: of the request, by names in small letters.
    """
    host = headers.get("host", "")
    if not exposure.serves(host):
        known = ", ".join(sorted(exposure.names))
        asked = f"'{host[:80]}'" if host else "no name"
        return (
            f"This page is served as {known}, and was asked for by {asked}. If that is its name too, start it with "
            "--name and that name."
        )
    if method in _HARMLESS or _is_own(exposure, host, headers):
        return ""
    return (
        "This request came from another web page and was refused. If a proxy serves this page under a name of its own, "
        "start it with --root-path and the whole address, such as https://example.org/draggan."
    )


def _is_own(exposure: Exposure, host: str, headers: Mapping[str, str]) -> bool:
    """Whether it comes from our own page, or from a program: those send no origin."""
    # No page can set this header. It is about the addresses that the browser sees, whatever a proxy makes of them.
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return True
    if origin == "null":
        return False
    # A page of another origin cannot add a header without asking first, and is not allowed to.
    served = (host, headers.get("x-forwarded-host", "").split(",")[0].strip())
    if any(_same(origin, name) for name in served):
        return True
    name = host_name(origin)
    return name in exposure.names and not exposure.serves_locally(name)


def _same(origin: str, host: str) -> bool:
    """Whether an origin is that host; where the host names no port, as proxies pass it on, any port will do."""
    if not host or host_name(origin) != host_name(host):
        return False
    port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host.rpartition("]")[2] else ""
    there = origin.rpartition("]")[2] if "]" in origin else origin.partition("://")[2]
    return not port or there.rpartition(":")[2] == port
