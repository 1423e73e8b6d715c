"""Whether this machine can listen on an address and a port, found out before a server tries."""

from __future__ import annotations

import errno
import socket

from dnnlib.errors import ListenError

__all__ = ["free_port"]

FIRST, COUNT = 7860, 100


def free_port(host: str, port: int | None, *, first: int = FIRST) -> int:
    """The port, if it can be had at that address; with None, the first one of a hundred that can.

    Args:
        host: a name or an address of this machine, without brackets.
        first: where to begin to look.

    Raises:
        ListenError: a sentence that says what is wrong and what to do.
    """
    for given in (port, first):
        if given is not None and not 0 < given < 65536:
            raise ListenError(f"there is no port {given}; choose one from 1 to 65535 with --port")
    family, address = _resolved(host)
    for candidate in (port,) if port is not None else range(first, min(first + COUNT, 65536)):
        problem = _problem(family, address, candidate)
        if not problem:
            return candidate
        if problem in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            raise ListenError(
                f"this machine does not have the address {host}; leave --host out to use the page from this machine "
                "alone, or give --listen for all of its addresses"
            )
        if port is not None and problem in (errno.EACCES, errno.EPERM):
            raise ListenError(f"port {port} needs rights that you do not have; choose one from 1024 on with --port")
    if port is not None:
        raise ListenError(
            f"port {port} is in use; choose another one with --port, or leave it out to take the first free one"
        )
    raise ListenError(f"no port from {first} on is free; choose one with --port")


def _resolved(host: str) -> tuple[int, str]:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError):
        raise ListenError(f"there is no address '{host}'; give --host an address of this machine") from None
    return int(found[0][0]), str(found[0][4][0])


def _problem(family: int, address: str, port: int) -> int:
    """The number of the error that listening there gives; 0: none."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # As the server does: a port that was in use a moment ago is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            probe.listen(1)
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return 0
