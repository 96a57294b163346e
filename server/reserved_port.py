"""A port that workers share, held by a process that does not listen on it."""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, Final

_RETRY_S: Final = 0.1
_NO_SUCH_FAMILY: Final = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
"""Where the machine has no IPv6, "localhost" is still told to have an address of it."""


class PortTaken(Exception):
    """Somebody else listens there, or there is no such address here."""


@contextmanager
def reserved(address: str, *, patience_s: float = 0.0) -> Iterator[str]:
    """The address, with a port in place of 0; others who want it alone are refused from now on,
    while workers may listen on it together. Raises PortTaken, after `patience_s`: the workers of
    a supervisor that was killed need a moment to end.
    """
    host, _, port = address.rpartition(":")
    end_s = time.monotonic() + patience_s
    with ExitStack() as stack:
        while True:
            try:
                number = _bind(host.strip("[]"), int(port), stack)
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or time.monotonic() >= end_s:
                    raise PortTaken(address) from error
            time.sleep(_RETRY_S)
        yield f"{host}:{number}"


def _bind(host: str, port: int, stack: ExitStack) -> int:
    """Binds every address of the host to one port; a name may have two, of IPv4 and of IPv6."""
    places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    failure: OSError | None = None
    bound = 0
    for family, _, _, _, place in places:
        at = (place[0], bound or port, *place[2:])
        try:
            # Alone first: with SO_REUSEPORT, two supervisors could share a port unawares.
            _hold(family, at, socket.SO_REUSEADDR).close()
            held = stack.enter_context(_hold(family, at, socket.SO_REUSEADDR, socket.SO_REUSEPORT))
        except OSError as error:
            if error.errno not in _NO_SUCH_FAMILY:
                raise
            failure = error
            continue
        bound = held.getsockname()[1]
    if not bound and failure is not None:
        raise failure
    return bound


def _hold(family: int, at: tuple[Any, ...], *options: int) -> socket.socket:
    held = socket.socket(family, socket.SOCK_STREAM)
    try:
        for option in options:
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        held.bind(at)
    except BaseException:
        held.close()
        raise
    return held
