"""Proxies that the environment names, where they would stand between a program and its own machine."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator

__all__ = ["set_aside"]

_NAMES = [name for kind in ("http", "https", "all") for name in (f"{kind}_proxy", f"{kind}_proxy".upper())]


@contextlib.contextmanager
def set_aside(*, all_of_them: bool = True) -> Iterator[None]:
    """Without the proxies of the environment.

    Args:
        all_of_them: else only those that cannot be used here, and this machine's own addresses go through none.
    """
    socks = importlib.util.find_spec("socksio") is not None
    before = {name: os.environ[name] for name in _NAMES if name in os.environ}
    exceptions = {name: os.environ.get(name) for name in ("no_proxy", "NO_PROXY")}
    for name, address in before.items():
        if all_of_them or (address.lower().startswith("socks") and not socks):
            del os.environ[name]
    here = "localhost,127.0.0.1,::1"
    for name, value in exceptions.items():
        os.environ[name] = f"{value},{here}" if value else here
    try:
        yield
    finally:
        os.environ.update(before)
        for name, value in exceptions.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
