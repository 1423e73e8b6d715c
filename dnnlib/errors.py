"""What goes wrong here on purpose. A message says what was tried, what is wrong and what to do, fit to be shown."""

from __future__ import annotations

__all__ = ["ConnectionLostError", "DownloadError", "ListenError", "RefusedError"]


class DownloadError(Exception):
    """A file could not be fetched completely and unchanged. It is absent then; a part is kept only to go on from."""


class RefusedError(DownloadError):
    """This address will not give the file, or is not fetched at all; another one may."""


class ConnectionLostError(DownloadError):
    """The connection failed; trying again may go on from here."""


class ListenError(Exception):
    """This machine cannot listen where it was told to."""
