"""Which addresses may be fetched, and where else the same file is."""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from dnnlib.errors import RefusedError

__all__ = ["check_url", "is_local", "is_on_hub", "mirrors"]

_HUB = "https://huggingface.co"


def check_url(url: str, *, allow_local_http: bool = False) -> str:
    """The URL itself, if it may be fetched.

    Raises:
        RefusedError: it is not https (plain http can be changed on its way; what it sends is a model to be loaded).
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise RefusedError(f"{url!r} is not a valid address: {error}") from error
    if not url.isascii() or any(c <= " " for c in url):
        raise RefusedError(f"{url!r} is not a valid address: write spaces and letters beyond ASCII as %20 and so on")
    local = allow_local_http and parts.scheme == "http" and is_local(url)
    if not host or not (parts.scheme == "https" or local):
        raise RefusedError(f"{url} is not fetched: only https addresses are. Download it yourself and open the file")
    if parts.username or parts.password:
        raise RefusedError(f"the address of {host} holds a password; such addresses are not fetched")
    return url


def is_local(url: str) -> bool:
    """Whether an address is one of this machine."""
    return urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")


def is_on_hub(url: str) -> bool:
    """Whether an address is one of a file on the Hugging Face hub, or on what stands in for it."""
    return "/resolve/" in url and url.startswith((f"{_HUB}/", f"{_endpoint() or _HUB}/"))


def mirrors(url: str) -> list[str]:
    """Where to look for a file, in order: the mirrors a person has set, then the address itself.

    ``DRAGGAN_MIRROR``: folders (comma-separated https addresses) that hold files under their published names.
    ``HF_ENDPOINT``: stands in for https://huggingface.co, as it does for Hugging Face's own tools.
    """
    name = urlsplit(url).path.rsplit("/", 1)[-1]
    folders = [folder.strip() for folder in os.environ.get("DRAGGAN_MIRROR", "").split(",") if folder.strip()]
    found = [f"{folder.rstrip('/')}/{name}" for folder in folders]
    if _endpoint() and url.startswith(f"{_HUB}/"):
        found.append(_endpoint() + url[len(_HUB) :])
    return list(dict.fromkeys([*found, url]))


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "").rstrip("/")
