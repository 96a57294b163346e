"""`standings serve`: a server until it is told to stop."""

from __future__ import annotations

import typer


def serve(
    *,
    jobs: bool = typer.Option(True, help="Whether the workers may run the jobs, too."),
    insecure: bool = typer.Option(
        False, help="Serve other machines without TLS, or without asking who calls."
    ),
) -> None:
    """Serves on STANDINGS_SERVER_ADDRESS, and operators on STANDINGS_SERVER_ADMIN_ADDRESS.

    Uses the stores that STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES name, or else starts its
    own. At SIGTERM or SIGINT it answers what it has taken in, then stops; at SIGHUP it replaces
    its workers one by one.
    """
    from bootstrap.log import configure_logging
    from bootstrap.settings import Settings
    from cli.failures import told
    from cli.supervising import supervise

    with told():
        settings = Settings.load()
        if insecure:
            server = settings.server.model_copy(update={"insecure": True})
            settings = settings.model_copy(update={"server": server})
        configure_logging(settings.log)
        supervise(settings, with_jobs=jobs)
