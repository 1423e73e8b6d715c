"""Who can reach the page, and by which names."""

from __future__ import annotations

import ipaddress
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from draggan.errors import ConfigError

__all__ = ["Exposure", "host_name"]

_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_TUNNEL = ".gradio.live"
_SPACE = ".hf.space"


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """Where the page is served.

    Attributes:
        host: the address it listens on.
        shared: whether a public link is made.
        public: whether anybody but this machine's own user may come: limits apply, and no path can be typed.
        names: the host names under which it may be asked for, in small letters.
        endings: what other names may end with.
        any_address: whether a number (an IP address) will do as a name; nobody else's name can stand for a number.
        origins: of web pages elsewhere that may use the service under /v1, such as ``https://example.org``.
        any_name: whether every name will do. A proxy in front of the page is asked by names that we do not know; as the
            page is public then, a foreign name gets nothing that its owner could not have anyway.
    """

    host: str = "127.0.0.1"
    shared: bool = False
    public: bool = False
    names: frozenset[str] = _LOOPBACK_NAMES
    endings: tuple[str, ...] = ()
    any_address: bool = False
    any_name: bool = False
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        host: str | None = None,
        listen: bool = False,
        share: bool = False,
        root_path: str | None = None,
        names: Iterable[str] = (),
        origins: Iterable[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> Exposure:
        """The exposure that options and environment mean together.

        Args:
            host: address to listen on; None: ``GRADIO_SERVER_NAME``, else this machine only.
            listen: on all addresses.
            share: make a public link; ``GRADIO_SHARE=true`` asks for one, too.
            root_path: where a proxy serves the page; None: ``GRADIO_ROOT_PATH``. A whole address names its host.
            names: more names that the page has.
            origins: of web pages that may use the service.

        Raises:
            ConfigError: an origin that is none.
        """
        env = os.environ if environment is None else environment
        host = "0.0.0.0" if listen else (host or env.get("GRADIO_SERVER_NAME") or "127.0.0.1").strip().strip("[]")
        root_path = env.get("GRADIO_ROOT_PATH", "") if root_path is None else root_path
        space = bool(env.get("SPACE_ID"))
        share = share or env.get("GRADIO_SHARE", "").strip().lower() == "true"
        named = {name.strip().lower().rstrip(".") for name in names}
        behind = urlsplit(root_path).hostname if "://" in root_path else None
        known = {name for name in (behind, env.get("SPACE_HOST", "").lower()) if name}
        local = _is_loopback(host)
        public = bool(not local or share or root_path or space)
        machine = {platform.node().lower()} - {""}
        if not local:
            known |= machine | {f"{name}.local" for name in machine}
        return cls(
            host=host,
            shared=share,
            public=public,
            names=frozenset(_LOOPBACK_NAMES | {host.lower()} | named | known),
            endings=((_TUNNEL,) if share else ()) + ((_SPACE,) if space else ()),
            any_address=public,
            any_name=bool(space or (root_path and behind is None and not named)),
            origins=frozenset(map(_origin, origins)),
        )

    def serves(self, host: str) -> bool:
        """Whether the page may be asked for by this ``Host``, with or without a port."""
        name = host_name(host)
        if not name:
            return False
        if self.any_name or name in self.names or name.endswith(self.endings or ("\0",)):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback

    @staticmethod
    def serves_locally(name: str) -> bool:
        """Whether a name means this machine, on which other programs have pages too."""
        return name == "localhost" or _is_loopback(name)


def host_name(host: str) -> str:
    """The name in a ``Host`` header, an origin or an address, in small letters; empty where there is none."""
    try:
        return (urlsplit(host if "://" in host else f"//{host}").hostname or "").rstrip(".")
    except ValueError:
        return ""


def _origin(text: str) -> str:
    """An origin as browsers send it."""
    parts = urlsplit(text.strip().lower())
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ConfigError(f"'{text:.80}' is not the origin of a web page; write it like https://example.org")
    return f"{parts.scheme}://{parts.netloc}"


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
