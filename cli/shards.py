"""`standings shards`: the 16 shards of the index."""

from __future__ import annotations

import typer


def shards(
    *,
    once: bool = typer.Option(False, "--once", help="Print the table and stop."),
    address: str | None = typer.Option(
        None, help="The admin listener, host:port; else that of STANDINGS_SERVER_ADMIN_ADDRESS."
    ),
) -> None:
    """Shows where each shard lives and how far it is, again every second, until Ctrl-C."""
    import asyncio

    from cli.operating import show_shards, told_of_server

    with told_of_server():
        asyncio.run(show_shards(address, once=once))
