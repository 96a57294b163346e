"""`standings worker`: one of the processes that `standings serve` starts; not for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import typer

PROOF_S: Final = 5.0
"""How long a worker that listens waits for its stores before it says that it serves: while it
replaces another, that one may have answers that it has not."""


def worker(
    slot: int = typer.Option(..., help="Which of the server's workers this is."),
    link: int = typer.Option(..., help="The descriptor of the socket to the supervisor."),
    *,
    jobs: bool = typer.Option(True, help="Whether this process may run the jobs, too."),
) -> None:
    """Serves until SIGTERM or the end of its supervisor."""
    import asyncio
    import contextlib

    from bootstrap.log import configure_logging
    from bootstrap.metrics import share_measures
    from bootstrap.settings import Settings
    from cli.failures import told

    with told():
        settings = Settings.load()
        configure_logging(settings.log, lambda: {"slot": slot})
        # Before what measures is loaded.
        share_measures(settings.state.directory / "metrics", slot)

    from cli.serving import serving
    from cli.stopping import stop_signal
    from server.health import OVERALL, Health
    from server.rpc.call import REQUEST_ID
    from server.worker_link import WorkerLink

    async def proven(health: Health) -> None:
        """Returns when the stores have answered, or after a while in which they have not."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PROOF_S):
                while not health.serving(OVERALL):
                    await health.changed()

    async def run() -> None:
        stop = stop_signal()
        supervisor = WorkerLink(link)
        supervisor.end_with_supervisor()
        async with (
            supervisor.beating(),
            serving(settings, with_jobs=jobs, worker=slot, hurry=supervisor.orphaned) as addresses,
        ):
            await proven(addresses.health)
            supervisor.ready()
            ends = [asyncio.create_task(e.wait()) for e in (stop, supervisor.orphaned)]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)

    def about() -> Mapping[str, object]:
        request_id = REQUEST_ID.get()
        return {"slot": slot, "request_id": request_id} if request_id else {"slot": slot}

    with told():
        configure_logging(settings.log, about)
        asyncio.run(run())
