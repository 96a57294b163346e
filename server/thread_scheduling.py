"""How the kernel shares the processors among the threads of a worker."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")


@contextmanager
def others_waiting() -> Iterator[None]:
    """Meanwhile the other threads of this process, and those that they start, take no processor
    away from a thread that runs: they wait for a free one, or for their turn.

    Those of gRPC are woken for what comes in. Where all processors are busy, they would interrupt
    the event loop each time; when they have to wait, more may have come. Nothing happens but on
    Linux, nor where an operator has given this thread or the others a policy of their own.
    """
    if sys.platform != "linux" or os.sched_getscheduler(0) != os.SCHED_OTHER:
        yield
        return
    _put_others(os.SCHED_OTHER, os.SCHED_BATCH)
    try:
        yield
    finally:
        _put_others(os.SCHED_BATCH, os.SCHED_OTHER)


def _put_others(source: int, target: int) -> None:
    own = threading.get_native_id()
    for thread in [int(task.name) for task in _THREADS.iterdir()]:
        # A thread may have ended by now, and a sandbox may forbid it.
        with suppress(OSError):
            if thread != own and os.sched_getscheduler(thread) == source:
                os.sched_setscheduler(thread, target, os.sched_param(0))
