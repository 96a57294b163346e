"""`standings breakers`: the circuit breakers of a machine, and the hand on them."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import typer

breakers = typer.Typer(
    help="The circuit breakers of a machine; `set` takes a dependency out of play.",
    invoke_without_command=True,
)

_ADDRESS: Final = typer.Option(
    None, help="The admin listener, host:port; else that of STANDINGS_SERVER_ADMIN_ADDRESS."
)


class ModeName(StrEnum):
    """Who is to decide."""

    AUTO = "auto"
    FORCED_OPEN = "forced-open"
    FORCED_CLOSED = "forced-closed"


@breakers.callback()
def show(
    context: typer.Context,
    *,
    once: bool = typer.Option(False, "--once", help="Print the table and stop."),
    workers: bool = typer.Option(False, "--workers", help="What each worker makes of each."),
    address: str | None = _ADDRESS,
) -> None:
    """Shows every breaker, and again at every change, until Ctrl-C."""
    import asyncio

    from cli.operating import show_breakers
    from cli.operating import told_of_server as told

    if context.invoked_subcommand is None:
        with told():
            asyncio.run(show_breakers(address, once=once, workers=workers))


@breakers.command("set")
def set_(
    name: Annotated[
        str, typer.Argument(help="A breaker such as redis/shard-07, or redis/*, postgres/*, *.")
    ],
    mode: Annotated[ModeName, typer.Argument(help="Who is to decide.", case_sensitive=False)],
    *,
    reason: str = typer.Option(..., help="Why, for those who find it: 8 to 200 characters."),
    ttl: str | None = typer.Option(None, help="For how long: 90s, 15m, 2h. Unset: 15m."),
    actor: str | None = typer.Option(None, help="Who; else the user of this shell."),
    address: str | None = _ADDRESS,
) -> None:
    """Forces breakers open or closed, or leaves them to themselves again.

    Exits 1 where a worker has not said within a second that it acts on it.
    """
    import asyncio

    from cli.operating import seconds_of, set_breaker, user_of_shell
    from cli.operating import told_of_server as told

    ttl_s = None if ttl is None else seconds_of(ttl)
    with told():
        laggards = asyncio.run(
            set_breaker(
                address,
                name,
                mode.name,
                reason=reason,
                actor=user_of_shell() if actor is None else actor,
                ttl_s=ttl_s,
            )
        )
    if laggards:
        raise typer.Exit(1)
