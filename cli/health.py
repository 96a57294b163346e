"""`standings health`: whether the server of this machine serves, as an exit code."""

from __future__ import annotations

import typer


def health(timeout_s: float = typer.Option(2.0, help="How long to wait for the answer.")) -> None:
    """Asks the server on STANDINGS_SERVER_HEALTH_ADDRESS, or else on STANDINGS_SERVER_ADDRESS, for
    its health; exits 0 only if it serves.
    """
    from bootstrap.settings import Settings
    from cli.failures import told
    from server.health_probe import ask_health

    with told():
        settings = Settings.load()
        plain = settings.server.health_address
        status = (
            ask_health(settings.server.address, timeout_s=timeout_s, settings=settings.client)
            if plain is None
            else ask_health(plain, timeout_s=timeout_s)
        )
    typer.echo(status)
    if status != "SERVING":
        raise typer.Exit(1)
