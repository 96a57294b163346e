"""Free TCP ports of the loopback interface."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from typing import Final

LOOPBACK: Final = "127.0.0.1"
FIRST_PORT: Final = 15000
LAST_PORT: Final = 31999
"""Below the range from which Linux takes ports for outgoing connections (32768 and up): a port
found free here stays free until the server that gets it binds it, but for another server."""

_choose = random.SystemRandom()


def free_ports(count: int) -> list[int]:
    """Distinct ports nobody listens on now. Somebody may take one before you do: be ready to ask
    again.
    """
    with ExitStack() as held:
        ports: list[int] = []
        while len(ports) < count:
            holder = held.enter_context(socket.socket())
            port = _choose.randint(FIRST_PORT, LAST_PORT)
            try:
                holder.bind((LOOPBACK, port))
            except OSError:
                continue
            ports.append(port)
        return ports
