"""`standings verify`: the index held against PostgreSQL."""

from __future__ import annotations

import typer


def verify(
    board: str = typer.Argument("", help="The board; else every board."),
    *,
    shards: str = typer.Option("", help="Only these, 0 to 15, such as 3,5."),
    repair: bool = typer.Option(False, "--repair", help="Build anew what differs."),
    address: str | None = typer.Option(
        None, help="The admin listener, host:port; else that of STANDINGS_SERVER_ADMIN_ADDRESS."
    ),
) -> None:
    """Tells which entries differ, while the server goes on; exit code 1 if any is left so."""
    import asyncio

    from cli.operating import run_operation, shards_of, told_of_server

    numbers = shards_of(shards)
    with told_of_server():
        done = asyncio.run(
            run_operation(address, lambda client: client.verify(board, numbers, repair=repair))
        )
    if done.state != "DONE" or not all(found.rebuilt for found in done.shards):
        raise typer.Exit(1)
