"""`standings jobs`: the jobs alone, for a deployment that keeps them apart from serving."""

from __future__ import annotations


def jobs() -> None:
    """Runs the jobs whenever this process is elected to, until SIGTERM or SIGINT."""
    import asyncio

    from bootstrap.container import open_container
    from bootstrap.log import configure_logging
    from bootstrap.settings import Settings
    from cli.failures import told
    from cli.serving import breaker_measures, measure, run_jobs
    from cli.stopping import stop_signal
    from cli.telling import metrics_told
    from server.metrics_endpoint import served

    async def run(settings: Settings) -> None:
        stop = stop_signal()
        async with open_container(settings, observer=breaker_measures()) as container:
            running = [
                asyncio.create_task(run_jobs(container, settings)),
                asyncio.create_task(measure(container)),
            ]
            await stop.wait()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    with told():
        settings = Settings.load()
        configure_logging(settings.log)
        with metrics_told(settings.metrics.address, served):
            asyncio.run(run(settings))
