"""Runs rows of the fault matrix on one deployment, one after the other, each judged by itself."""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootstrap.embedded.waiting import until
from chaos.calls import Channels
from chaos.checker import Verdict, check
from chaos.conduct import Vitals, check_leaks
from chaos.history import History, MarkKind
from chaos.load import BOARDS, Load, Players, Population, new_history
from chaos.row import Row, Scene, Seen, missed, seen_of, well
from chaos.stores import Found, Ledger, Stores
from chaos.target import Target
from chaos.verdicts import Breach, Harm, Invariant

_CHANNEL_COUNT: Final = 16
_CONVERGE_S: Final = 60.0
_WARM_S: Final = 2.0
_LOOK_S: Final = 0.25
_LET_GO_S: Final = 10.0
"""By when workers have let go of what they took for the trouble."""
_CALM_S_MAX: Final = 45.0
"""A breaker that opened again and again stays open for up to half a minute."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How a run is played. `users`: entries by board."""

    scale: float = 1.0
    seed: int = 1
    rate: float = 300.0
    calm_s: float = 10.0
    after_s: float = 10.0
    users: dict[str, int] = field(
        default_factory=lambda: dict(zip(BOARDS, (200_000, 20_000), strict=True))
    )


SHORT: Final = Plan(
    scale=0.3, rate=200.0, calm_s=2.5, after_s=4.0,
    users=dict(zip(BOARDS, (50_000, 5_000), strict=True)),
)  # fmt: skip


GIVEN: Final = Plan(
    scale=0.5, rate=100.0, calm_s=5.0, after_s=10.0,
    users=dict(zip(BOARDS, (5_000, 5_000), strict=True)),
)  # fmt: skip
"""Somebody else's deployment may have other work to do."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a row. `seen` None: it did not run, and `notes` says why."""

    row: Row
    seen: Seen | None
    verdict: Verdict
    converged_s: float = 0.0
    notes: Sequence[str] = ()

    @property
    def passed(self) -> bool:
        """Whether all held; a row that cannot run does not count as passed."""
        return self.seen is not None and self.verdict.clean

    @property
    def failed(self) -> bool:
        """Whether it ran and something did not hold."""
        return self.seen is not None and not self.verdict.clean


Told = Callable[[Result], None]


class Matrix:
    """A deployment with boards on it, and the rows that are run."""

    def __init__(self, target: Target, plan: Plan, report: Path) -> None:
        self._target = target
        self._plan = plan
        self._report = report
        self._ledgers: dict[str, Ledger] = {}

    async def run(self, rows: Sequence[Row], told: Told) -> Sequence[Result]:
        """Every row in turn; `told` hears of each as it ends. Raises RuntimeError where the
        deployment cannot be used any more.
        """
        await self._prepare()
        results = []
        for row in rows:
            if row.missing:
                result = Result(row, None, Verdict(()), notes=(row.missing,))
            else:
                result = await self._run(row)
            results.append(result)
            told(result)
        return results

    async def _prepare(self) -> None:
        """Boards with entries in both stores, and every connection and cache warm."""
        await self._target.prepare(self._plan.users)
        if await self._converged() is None:
            raise RuntimeError("the index was not built in time")
        async with self._playing(new_history()):
            await asyncio.sleep(_WARM_S)
        await self._take_ledgers()

    async def _run(self, row: Row) -> Result:
        history = new_history()
        history.mark(MarkKind.CONVERGED, time.monotonic())
        vitals = await self._target.vitals()
        async with self._playing(history) as load:
            scene = Scene(self._target, load, history, self._plan.scale)
            if not await _until_well(history, timeout_s=_CALM_S_MAX):
                scene.notes.append("it was not well before it was broken")
            history.mark(MarkKind.CALM, time.monotonic())
            await asyncio.sleep(self._plan.calm_s)
            history.mark(
                MarkKind.FAULT, time.monotonic(), name=row.name, index=row.index, ledger=row.ledger
            )
            try:
                await row.break_(scene)
            finally:
                history.mark(MarkKind.HEAL, time.monotonic())
                await row.mend(scene)
            await asyncio.sleep(self._plan.after_s)
            await _until_well(history, timeout_s=row.expected.heals_s + 1 - self._plan.after_s)
        notes = list(scene.notes)
        if load.in_doubt:
            notes.append(f"{load.in_doubt} batches are still in doubt")
        return await self._judged(row, history, vitals, notes)

    async def _judged(
        self, row: Row, history: History, vitals: Vitals | None, notes: list[str]
    ) -> Result:
        converged_s = await self._converged()
        if not await self._target.whole():
            notes.append("not all workers are back")
        if (count := await self._target.probes_most()) is not None:
            history.mark(MarkKind.PROBES, time.monotonic(), count=count)
        history.write(self._report / f"row-{row.number:02}.jsonl")
        found = await self._found()
        verdict = await asyncio.to_thread(check, history, found, also_told=row.expected.also_told)
        seen = seen_of(history)
        took_s = _CONVERGE_S if converged_s is None else converged_s
        notes += missed(row.expected, seen, took_s)
        breaches = [
            *verdict.breaches,
            *await self._leaks(vitals),
            *(Breach(Invariant.EXPECTED, Harm.CONDUCT, note) for note in notes),
        ]
        return Result(row, seen, Verdict(breaches), took_s, tuple(notes))

    @asynccontextmanager
    async def _playing(self, history: History) -> AsyncIterator[Load]:
        """Load on fresh connections."""
        rng = random.Random(self._plan.seed)  # noqa: S311 - no secret
        populations = {board: Population(count) for board, count in self._plan.users.items()}
        channels = Channels(self._target.address, _CHANNEL_COUNT)
        try:
            players = Players(populations, rng)
            # What was read of both stores makes a collection take most of a second, and the calls
            # that wait for its end come as a burst that no game sends.
            gc.disable()
            async with Load(channels, players, history, rate=self._plan.rate) as load:
                yield load
        finally:
            gc.enable()
            await channels.close()

    async def _found(self) -> Sequence[Found]:
        """What the stores hold, if they can be looked into."""
        stores = self._target.stores
        if stores is None:
            return ()
        found = [
            await stores.found(board, operator, self._ledgers[board])
            for board, operator in BOARDS.items()
        ]
        self._ledgers = {one.board: one.after for one in found}
        return found

    async def _leaks(self, before: Vitals | None) -> Sequence[Breach]:
        """What is still held once workers had the time to let go of it, and to say so."""
        end_s = time.monotonic() + _LET_GO_S
        while True:
            after = await self._target.vitals()
            leaks = () if before is None or after is None else tuple(check_leaks(before, after))
            if not leaks or time.monotonic() > end_s:
                return leaks
            await asyncio.sleep(_LOOK_S)

    async def _converged(self) -> float | None:
        """After how many seconds the index held what the ledger does; None: it did not."""
        started_s = time.monotonic()
        if self._target.stores is None:
            return 0.0
        ledgers = [await self._target.stores.ledger(board) for board in BOARDS]
        keys = {ledger.season: ledger.keys() for ledger in ledgers}

        async def equal() -> bool:
            # Nodes that were killed have come back elsewhere in the list.
            stores = self._target.stores
            return stores is not None and await _holds(stores, keys)

        if not await until(equal, timeout_s=_CONVERGE_S):
            return None
        return time.monotonic() - started_s

    async def _take_ledgers(self) -> None:
        stores = self._target.stores
        if stores is not None:
            self._ledgers = {board: await stores.ledger(board) for board in BOARDS}


async def _until_well(history: History, *, timeout_s: float) -> bool:
    """Waits for a second in which all went well."""

    async def is_well() -> bool:
        return well(history)

    await asyncio.sleep(1)
    return await until(is_well, timeout_s=timeout_s, interval_s=_LOOK_S)


async def _holds(stores: Stores, keys: Mapping[int, Sequence[bytes]]) -> bool:
    for season, own in keys.items():
        if await stores.index(season) != own:
            return False
    return True
