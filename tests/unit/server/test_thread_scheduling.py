"""Who may take a processor from whom."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from server.thread_scheduling import others_waiting

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only there it does anything")


@contextmanager
def another_thread(policy: int) -> Iterator[int]:
    """The id of a thread with a policy."""
    ready, end = threading.Event(), threading.Event()

    def live() -> None:
        os.sched_setscheduler(0, policy, os.sched_param(0))
        ready.set()
        end.wait()

    thread = threading.Thread(target=live)
    thread.start()
    try:
        ready.wait()
        assert thread.native_id is not None
        yield thread.native_id
    finally:
        end.set()
        thread.join()


def test_others_wait_and_this_one_does_not() -> None:
    """The policy of a batch for them, as it was for the caller; and as it was afterwards."""
    with another_thread(os.SCHED_OTHER) as other:
        with others_waiting():
            assert os.sched_getscheduler(other) == os.SCHED_BATCH
            assert os.sched_getscheduler(0) == os.SCHED_OTHER

        assert os.sched_getscheduler(other) == os.SCHED_OTHER


def test_a_policy_of_its_own_stays() -> None:
    """What an operator has chosen is not undone."""
    with another_thread(os.SCHED_IDLE) as other:
        with others_waiting():
            assert os.sched_getscheduler(other) == os.SCHED_IDLE
        assert os.sched_getscheduler(other) == os.SCHED_IDLE
