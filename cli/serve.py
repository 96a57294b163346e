"""`standings serve`: a server until it is told to stop."""

from __future__ import annotations

import typer


def serve(
    *,
    jobs: bool = typer.Option(True, help="Whether this process may run the jobs, too."),
) -> None:
    """Serves on STANDINGS_SERVER_ADDRESS, and operators on STANDINGS_SERVER_ADMIN_ADDRESS.

    Uses the stores that STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES name, or else starts its
    own. At SIGTERM or SIGINT it answers what it has taken in, then stops.
    """
    import asyncio

    from bootstrap.log import configure_logging
    from bootstrap.settings import Settings
    from bootstrap.stores import open_stores
    from cli.failures import told
    from cli.serving import serving
    from cli.stopping import stop_signal

    async def run(settings: Settings) -> None:
        stop = stop_signal()
        async with (
            open_stores(settings) as ready,
            serving(ready, with_jobs=jobs) as addresses,
        ):
            typer.echo(f"listening on {addresses.public}, for operators on {addresses.admin}")
            await stop.wait()

    with told():
        settings = Settings.load()
        configure_logging(settings.log)
        asyncio.run(run(settings))
