"""What reads of a big board cost at every depth: `make bench-reads COUNT=1000000`."""

from __future__ import annotations

import argparse
import asyncio
import platform
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import cpu_count
from statistics import fmean, median, quantiles
from typing import Final

from rich.console import Console
from rich.table import Table

from bootstrap.embedded.binaries import find_postgres, find_redis, server_version
from bootstrap.log import configure_logging
from bootstrap.settings import LogSettings
from standings_client import AsyncClient
from tests.bench.big_board import BOARD_ID, big_board
from tests.fixtures.counting import RoundTrips, counted

_WARM_UP_ROUNDS: Final = 20
_ROUNDS: Final = 300
_FIRST: Final = "10 from rank 1"
_FRIEND_COUNT: Final = 100
_COUNT_MIN: Final = 10_000
"""Fewer have no depth to speak of."""

Call = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Measured:
    """What one kind of call cost: ms and round trips to the index of each try."""

    times_ms: list[float] = field(default_factory=list)
    round_trips: list[int] = field(default_factory=list)


def calls_of(client: AsyncClient, count: int, rng: random.Random) -> Mapping[str, Call]:
    """The calls to measure, by name. Those that name no rank take another user each time."""
    depths = (1, 1_000, count // 10, count // 2, count - 100)

    def page(start_rank: int, size: int) -> Call:
        return lambda: client.list_entries(BOARD_ID, start_rank=start_rank, page_size=size)

    def user() -> int:
        return rng.randint(1, count)

    calls = {f"10 from rank {depth:,}": page(depth, 10) for depth in depths}
    calls |= {f"100 from rank {depth:,}": page(depth, 100) for depth in (1, count // 2)}
    return calls | {
        "10 from any rank": lambda: client.list_entries(BOARD_ID, start_rank=user(), page_size=10),
        "one user": lambda: client.get_entry(BOARD_ID, user()),
        f"{_FRIEND_COUNT} users": lambda: client.batch_get_entries(
            BOARD_ID, [user() for _ in range(_FRIEND_COUNT)]
        ),
        "10 around a user": lambda: client.list_entries_around(
            BOARD_ID, user_id=user(), above=5, below=4
        ),
        "rank of a score, 2 targets": lambda: client.estimate_rank(
            BOARD_ID, rng.randrange(100_000), target_rank=count // 2, target_percent=10
        ),
        "score at a percent": lambda: client.get_percentile(BOARD_ID, 50),
        "percent of a score": lambda: client.get_percentile(BOARD_ID, score=rng.randrange(100_000)),
    }


async def measure(calls: Mapping[str, Call], trips: RoundTrips) -> Mapping[str, Measured]:
    """Every call in turn, again and again, so that a slow moment hits all of them."""
    measured = {name: Measured() for name in calls}
    for number in range(_WARM_UP_ROUNDS + _ROUNDS):
        for name, call in calls.items():
            trips.taken()
            started = time.perf_counter()
            await call()
            elapsed_ms = 1_000 * (time.perf_counter() - started)
            if number >= _WARM_UP_ROUNDS:
                measured[name].times_ms.append(elapsed_ms)
                measured[name].round_trips.append(trips.taken())
    return measured


def table_of(measured: Mapping[str, Measured]) -> Table:
    """Times in ms; the last column is the median in terms of that of the first page."""
    table = Table(box=None, pad_edge=False)
    table.add_column("read")
    for name in ("p50 ms", "p99 ms", "round trips", "p50 / first page"):
        table.add_column(name, justify="right")
    first_ms = median(measured[_FIRST].times_ms)
    for name, one in measured.items():
        p50_ms = median(one.times_ms)
        table.add_row(
            name,
            f"{p50_ms:.2f}",
            f"{quantiles(one.times_ms, n=100)[-1]:.2f}",
            f"{fmean(one.round_trips):.2f}",
            f"{p50_ms / first_ms:.2f}",
        )
    return table


def machine() -> str:
    """What it was measured on."""
    redis, postgres = find_redis(), find_postgres() / "postgres"
    return (
        f"{cpu_count()} cores, {platform.system()} {platform.machine()},"
        f" Python {platform.python_version()},"
        f" {redis.name} {_dotted(server_version(redis))},"
        f" PostgreSQL {_dotted(server_version(postgres))}"
    )


def _dotted(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


async def main(count: int) -> None:
    """Fills, builds, measures and prints."""
    console = Console(highlight=False, soft_wrap=True)
    configure_logging(LogSettings(level="ERROR", json_lines=False))
    console.print(f"{machine()}; client, server and six Redis nodes share them")
    console.print(f"filling a board of {count:,} entries and building its index")
    async with big_board(count) as client:
        console.print(f"measuring {_ROUNDS} rounds with one caller, caches off")
        with counted() as trips:
            measured = await measure(calls_of(client, count, random.Random(1)), trips)
    console.print(table_of(measured))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="make bench-reads", description=__doc__)
    parser.add_argument("count", type=int, help="how many entries the board has")
    entry_count = parser.parse_args().count
    if entry_count < _COUNT_MIN:
        parser.error(f"count must be at least {_COUNT_MIN:,}")
    asyncio.run(main(entry_count))
