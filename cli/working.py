"""What a worker process does, whatever transport its calls come by."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Mapping
from typing import Final

from bootstrap.settings import Settings
from cli.serving import serving
from core.tracing import SPAN
from server.health import OVERALL, Health
from server.rpc.call import REQUEST_ID
from server.thread_scheduling import others_waiting
from server.transport.listener import MakeListener
from server.worker_link import WorkerLink

PROOF_S: Final = 5.0
"""How long a worker that listens waits for its stores before it says that it serves: while it
replaces another, that one may have answers that it has not."""


async def work(
    settings: Settings,
    link: WorkerLink,
    slot: int,
    *,
    with_jobs: bool,
    listener: MakeListener,
    ends: Collection[asyncio.Event],
    hurry: asyncio.Event,
) -> None:
    """Serves until one of `ends` is set, its supervisor says so or is gone; then drains, without
    patience if `hurry` is set by then.
    """
    async with (
        link.beating(),
        serving(
            settings, with_jobs=with_jobs, worker=slot, hurry=hurry, listener=listener
        ) as addresses,
    ):
        # Not while it drains: then messages that have come must not lie for a moment.
        with others_waiting():
            await _proven(addresses.health)
            link.ready()
            waits = [asyncio.create_task(e.wait()) for e in (*ends, link.dismissed, link.orphaned)]
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if link.orphaned.is_set():
            hurry.set()


def about(slot: int) -> Mapping[str, object]:
    """What every log line of a worker tells beside its own."""
    known: dict[str, object] = {"slot": slot}
    if request_id := REQUEST_ID.get():
        known["request_id"] = request_id
    if (span := SPAN.get()) is not None:
        known |= {"trace_id": span.trace_id, "span_id": span.span_id}
    return known


async def _proven(health: Health) -> None:
    """Returns when the stores have answered, or after a while in which they have not."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PROOF_S):
            while not health.serving(OVERALL):
                await health.changed()
