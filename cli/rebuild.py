"""`standings rebuild`: the index built anew from PostgreSQL."""

from __future__ import annotations

import typer


def rebuild(
    board: str = typer.Argument("", help="The board; else every board."),
    *,
    shards: str = typer.Option("", help="Only these, 0 to 15, such as 3,5."),
    address: str | None = typer.Option(
        None, help="The admin listener, host:port; else that of STANDINGS_SERVER_ADMIN_ADDRESS."
    ),
) -> None:
    """Builds the index anew beside the one in use, while the server goes on."""
    import asyncio

    from cli.operating import run_operation, shards_of, told_of_server

    numbers = shards_of(shards)
    with told_of_server():
        done = asyncio.run(run_operation(address, lambda client: client.rebuild(board, numbers)))
    if done.state != "DONE":
        raise typer.Exit(1)
