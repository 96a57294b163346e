"""`standings worker`: one of the processes that `standings serve` starts; not for people."""

from __future__ import annotations

import typer


def worker(
    slot: int = typer.Option(..., help="Which of the server's workers this is."),
    link: int = typer.Option(..., help="The descriptor of the socket to the supervisor."),
    *,
    jobs: bool = typer.Option(True, help="Whether this process may run the jobs, too."),
) -> None:
    """Serves until SIGTERM, or until its supervisor says so or ends."""
    import asyncio
    from functools import partial

    from bootstrap.log import configure_logging
    from bootstrap.metrics import share_measures
    from bootstrap.settings import Settings
    from cli.failures import told

    with told():
        settings = Settings.load()
        configure_logging(settings.log, lambda: {"slot": slot})
        # Before what measures is loaded.
        share_measures(settings.state.directory / "metrics", slot)

    from cli.stopping import stop_signal
    from cli.working import about, work
    from server import event_loop
    from server.transport.grpcio import GrpcioListener
    from server.worker_link import WorkerLink

    async def run() -> None:
        stop = stop_signal()
        supervisor = WorkerLink(link)
        supervisor.end_with_supervisor()
        await work(
            settings,
            supervisor,
            slot,
            with_jobs=jobs,
            listener=GrpcioListener,
            ends=(stop,),
            hurry=asyncio.Event(),
        )

    with told():
        configure_logging(settings.log, partial(about, slot))
        event_loop.run(run())
