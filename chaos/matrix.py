"""Runs rows of the fault matrix on one deployment, one after the other, each judged by itself."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bootstrap.embedded.waiting import until
from chaos.boards import make_boards
from chaos.calls import Channels
from chaos.checker import Verdict, check
from chaos.conduct import Vitals, check_leaks
from chaos.deployment import WORKER_COUNT, Deployment
from chaos.history import History, MarkKind
from chaos.load import BOARDS, Load, Players, Population, new_history
from chaos.row import Row, Scene, Seen, missed, seen_of
from chaos.stores import Ledger
from chaos.verdicts import Breach, Harm, Invariant

_CHANNEL_COUNT: Final = 16
_CONVERGE_S: Final = 60.0
_READY_S: Final = 60.0
_RESPAWN_S: Final = 15.0
_WARM_S: Final = 2.0


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

    def __init__(self, deployment: Deployment, plan: Plan, report: Path) -> None:
        self._deployment = deployment
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
        await make_boards(self._deployment, self._plan.users)
        if await self._converged() is None:
            raise RuntimeError("the index was not built in time")
        for board in BOARDS:
            self._ledgers[board] = await self._deployment.stores.ledger(board)
        async with self._playing(new_history()):
            await asyncio.sleep(_WARM_S)
        await self._take_ledgers()

    async def _run(self, row: Row) -> Result:
        history = new_history()
        history.mark(MarkKind.CONVERGED, time.monotonic())
        vitals = self._deployment.servers.vitals()
        async with self._playing(history) as load:
            scene = Scene(self._deployment, load, history, self._plan.scale)
            await asyncio.sleep(self._plan.calm_s)
            history.mark(MarkKind.FAULT, time.monotonic(), name=row.name, index=row.index)
            try:
                await row.break_(scene)
            finally:
                history.mark(MarkKind.HEAL, time.monotonic())
                await row.mend(scene)
            await asyncio.sleep(max(self._plan.after_s, row.expected.heals_s * self._plan.scale))
        notes = list(scene.notes)
        if load.in_doubt:
            notes.append(f"{load.in_doubt} batches are still in doubt")
        return await self._judged(row, history, vitals, notes)

    async def _judged(self, row: Row, history: History, vitals: Vitals, notes: list[str]) -> Result:
        converged_s = await self._converged()
        if not await self._deployment.servers.whole(WORKER_COUNT, timeout_s=_RESPAWN_S):
            notes.append("not all workers are back")
        history.write(self._report / f"row-{row.number:02}.jsonl")
        stores = self._deployment.stores
        found = [
            await stores.found(board, operator, self._ledgers[board])
            for board, operator in BOARDS.items()
        ]
        self._ledgers = {one.board: one.after for one in found}
        verdict = await asyncio.to_thread(check, history, found, also_told=row.expected.also_told)
        seen = seen_of(history)
        took_s = _CONVERGE_S if converged_s is None else converged_s
        notes += missed(row.expected, seen, took_s)
        breaches = [
            *verdict.breaches,
            *check_leaks(vitals, self._deployment.servers.vitals()),
            *(Breach(Invariant.EXPECTED, Harm.CONDUCT, note) for note in notes),
        ]
        return Result(row, seen, Verdict(breaches), took_s, tuple(notes))

    @asynccontextmanager
    async def _playing(self, history: History) -> AsyncIterator[Load]:
        """Load on fresh connections."""
        rng = random.Random(self._plan.seed)  # noqa: S311 - no secret
        populations = {board: Population(count) for board, count in self._plan.users.items()}
        channels = Channels(self._deployment.address, _CHANNEL_COUNT)
        try:
            players = Players(populations, rng)
            async with Load(channels, players, history, rate=self._plan.rate) as load:
                yield load
        finally:
            await channels.close()

    async def _converged(self) -> float | None:
        """After how many seconds the index held what the ledger does; None: it did not."""
        started_s = time.monotonic()
        ledgers = {board: await self._deployment.stores.ledger(board) for board in BOARDS}
        keys = {ledger.season: ledger.keys() for ledger in ledgers.values()}

        async def equal() -> bool:
            stores = self._deployment.stores
            return all([await stores.index(season) == own for season, own in keys.items()])

        if not await until(equal, timeout_s=_CONVERGE_S):
            return None
        return time.monotonic() - started_s

    async def _take_ledgers(self) -> None:
        self._ledgers = {b: await self._deployment.stores.ledger(b) for b in BOARDS}
