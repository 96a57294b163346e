"""`standings demo`: real servers on this machine, a game day played on them, and the board."""

from __future__ import annotations

import typer


def demo(
    *,
    once: bool = typer.Option(False, "--once", help="Stop after printing the board."),
    players: int = typer.Option(2_000, min=10, help="How many players there are."),
    scores: int = typer.Option(20_000, min=100, help="How many scores they make."),
    seed: int = typer.Option(1, help="The same seed plays the same day."),
) -> None:
    """Starts everything, plays a game day through the client, and shows the board.

    Uses the servers that STANDINGS_POSTGRES_DSN and STANDINGS_REDIS_NODES name, or else starts
    its own with their data under STANDINGS_EMBEDDED_DIRECTORY (.standings).
    """
    import asyncio

    try:
        from cli.arena import GameDay
        from cli.showing import show
    except ModuleNotFoundError as error:
        if error.name != "standings_client":
            raise
        typer.echo("the demo needs the extra: pip install 'standings[embedded]'", err=True)
        raise typer.Exit(1) from None

    asyncio.run(show(GameDay(player_count=players, score_count=scores, seed=seed), once=once))
