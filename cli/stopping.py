"""How a command that runs until it is told to stop is told."""

from __future__ import annotations

import asyncio
import signal


def stop_signal() -> asyncio.Event:
    """Set at the first SIGTERM or SIGINT from now on. Asked for before anything is started: a
    signal in the middle of a start must stop what is started already.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    return stop
