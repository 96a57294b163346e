"""How the kernel shares the processors among the threads of a worker."""

from __future__ import annotations

import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final

_THREADS: Final = Path("/proc/self/task")


def let_others_wait() -> None:
    """From now on the other threads of this process, and those that they start, take no processor
    away from a thread that runs: they wait for a free one, or for their turn.

    Those of gRPC are woken for every message. Where all processors are busy, each time one of them
    interrupts the event loop, which has other messages to do, and does a single one; when it has to
    wait, it finds several. Nothing happens but on Linux, nor to threads that an operator has
    given a policy of their own.
    """
    if sys.platform != "linux":
        return
    own = threading.get_native_id()
    for thread in [int(task.name) for task in _THREADS.iterdir()]:
        # A thread may have ended by now, and a sandbox may forbid it.
        with suppress(OSError):
            if thread != own and os.sched_getscheduler(thread) == os.SCHED_OTHER:
                os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
