"""The board as the demo prints it, and what to try next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from rich import box
from rich.console import Console
from rich.table import Table

from cli.arena import BOARD_ID, GameDay
from cli.serving import Addresses
from standings_client import AsyncClient, Entry

TOP_COUNT: Final = 10
NEIGHBOUR_COUNT: Final = 2
"""How many are shown on each side of the player."""


async def print_board(client: AsyncClient, day: GameDay, console: Console) -> None:
    """The top 10; then a player from the middle of the crowd, between their neighbours."""
    page = await client.list_entries(BOARD_ID, page_size=TOP_COUNT)
    console.print(f"\nTop {len(page.entries)} of {page.meta.entry_count:,} players")
    console.print(_table(page.entries))

    # The keen play early in the list: this one played at least once on most days.
    user_id = max(1, day.player_count // 20)
    entry = (await client.get_entry(BOARD_ID, user_id)).entry
    around = await client.list_entries(
        BOARD_ID,
        start_rank=max(1, entry.rank - NEIGHBOUR_COUNT),
        page_size=2 * NEIGHBOUR_COUNT + 1,
    )
    console.print(f"\nPlayer {user_id} is number {entry.rank:,}, between")
    console.print(_table(around.entries, chosen=user_id))


def _table(entries: Sequence[Entry], *, chosen: int | None = None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("rank", "player", "score"):
        table.add_column(name, justify="right")
    table.add_column("")
    for entry in entries:
        mark = "<" if entry.user_id == chosen else ""
        style = "bold" if mark else None
        table.add_row(f"{entry.rank:,}", str(entry.user_id), f"{entry.score:,}", mark, style=style)
    return table


def print_next_steps(console: Console, addresses: Addresses, board_id: str) -> None:
    """Lines to paste into another terminal, against the server that runs now."""
    address = addresses.public
    method = "standings.v1.RankingService/ListEntries"
    question = f'{{"boardId": "{board_id}", "pageSize": 3}}'
    lines = f"""
Try next, from another terminal in this folder:

  .venv/bin/python - <<'PYTHON'
  from standings_client import Client
  with Client("{address}") as client:
      print(client.submit_score("{board_id}", 42, 2500, return_rank=True).entry)
  PYTHON

  .venv/bin/buf curl --protocol grpc --http2-prior-knowledge \\
    -d '{question}' http://{address}/{method}

  grpcurl -plaintext -d '{question}' {address} {method}"""
    console.print(lines, markup=False)
