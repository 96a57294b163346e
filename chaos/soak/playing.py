"""Everybody who takes part in a soak, at the same time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from bootstrap.embedded.waiting import until
from chaos.boards import make_board
from chaos.conduct import Vitals
from chaos.deployment import Deployment
from chaos.proxy import Proxy
from chaos.soak.calling import Calling
from chaos.soak.ledgers import compare
from chaos.soak.owners import Owner, Stuck
from chaos.soak.tally import Tally
from chaos.soak.vitals import Sample, growing, held, watch_vitals
from chaos.soak.watchers import Watchers
from chaos.writes import INCREMENT

_OWNERS: Final = 8
_USERS: Final = range(1, 201)
_WIDE_USERS: Final = range(1, 1_001)
_WIDE_BATCH: Final = 100
_WIDE_EVERY_S: Final = 0.5
_PASSING: Final = 3
_PASSING_EVERY_S: Final = 0.5
_SLOW: Final = 4
_CUT_EVERY_S: Final = 1.0
_LET_GO_S: Final = 20.0
"""By when workers have let go of calls that are over."""
_QUIET_S: Final = 3.0
_CONVERGE_S: Final = 30.0

Turn = Callable[[], Awaitable[object]]


@dataclass(slots=True)
class Soak:
    """A deployment, boards with their owners, and all who make trouble. `rate` in turns a second, a
    turn being a write and two reads.
    """

    deployment: Deployment
    rng: random.Random
    rate: float
    tally: Tally
    samples: list[Sample] = field(default_factory=list)
    """Under load, once all was warm."""
    rest: list[Vitals] = field(default_factory=list)
    """Without calls: when all was warm, and in the end."""
    owners: list[Owner] = field(default_factory=list)

    async def run(self, warm_s: float, measured_s: float) -> None:
        """Load until all is warm, a rest, load that is measured, a rest, and the stores."""
        address = self.deployment.address
        cutter = Proxy(self.rng, lambda: int(address.rpartition(":")[2]))
        await cutter.start()
        try:
            calling = Calling(self.rng, self.tally)
            self.owners = [
                Owner(f"soak-{number}", _USERS, calling, self.rng) for number in range(_OWNERS)
            ]
            wide = Owner("soak-wide", _WIDE_USERS, calling, self.rng)
            boards = [*self.owners, wide]
            for owner in boards:
                await make_board(address, owner.board, INCREMENT)
            stores = self.deployment.stores
            before = [await stores.ledger(owner.board) for owner in boards]
            workers = self.deployment.servers.workers()
            for play_s, samples in ((warm_s, []), (measured_s, self.samples)):
                async with calling.connected(address, cutter.address):
                    await self._play(wide, cutter, play_s, samples)
                self.rest.append(await self._at_rest())
        finally:
            await cutter.stop()
        if self.deployment.servers.workers() != workers:
            self.tally.wrong("a worker has ended")
        for text in (*growing(self.samples), *held(*self.rest)):
            self.tally.wrong(text)
        self.owners = boards
        for owner, ledger in zip(boards, before, strict=True):
            await self._index_has(ledger.season, owner)
            for text in compare(owner, await stores.found(owner.board, INCREMENT, ledger)):
                self.tally.wrong(text)

    async def _play(self, wide: Owner, cutter: Proxy, play_s: float, samples: list[Sample]) -> None:
        watchers = Watchers(wide, wide.calling, self.rng)
        pause_s = _OWNERS / self.rate
        end_s = time.monotonic() + play_s
        turns: list[tuple[Turn, float]] = [
            *((owner.turn, pause_s) for owner in self.owners),
            (lambda: wide.write(self.rng.sample(wide.users, _WIDE_BATCH)), _WIDE_EVERY_S),
            *[(watchers.passing, _PASSING_EVERY_S)] * _PASSING,
            *[(watchers.slow, 0.0)] * _SLOW,
        ]
        looking = asyncio.create_task(watch_vitals(self.deployment.servers.vitals, samples))
        cutting = asyncio.create_task(self._cut(cutter))
        try:
            async with asyncio.TaskGroup() as group:
                for turn, mean_s in turns:
                    group.create_task(self._again_and_again(turn, mean_s, end_s))
        finally:
            for task in (looking, cutting):
                task.cancel()
            await asyncio.gather(looking, cutting, return_exceptions=True)

    async def _again_and_again(self, turn: Turn, mean_s: float, end_s: float) -> None:
        """Turns with pauses of that length on the average, the first one as well."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / mean_s) if mean_s else 0)
            if time.monotonic() > end_s:
                return
            try:
                await turn()
            except Stuck as error:
                self.tally.wrong(str(error))
                return

    async def _cut(self, cutter: Proxy) -> None:
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / _CUT_EVERY_S))
            cutter.cut()

    async def _at_rest(self) -> Vitals:
        """What is held once no call is in progress, and what was there for them is gone."""
        servers = self.deployment.servers

        async def is_silent() -> bool:
            return await servers.calls_in_flight() == 0

        async def is_as_before() -> bool:
            return not self.rest or not [*held(self.rest[0], await servers.vitals())]

        if not await until(is_silent, timeout_s=_LET_GO_S):
            self.tally.wrong("calls of callers who have gone are still in progress")
        await asyncio.sleep(_QUIET_S)
        await until(is_as_before, timeout_s=_LET_GO_S)
        return await servers.vitals()

    async def _index_has(self, season: int, owner: Owner) -> None:
        """Gives the index the time to follow; whether it has is seen afterwards."""
        stores = self.deployment.stores
        keys = (await stores.ledger(owner.board)).keys()

        async def has() -> bool:
            return await stores.index(season) == keys

        await until(has, timeout_s=_CONVERGE_S)
