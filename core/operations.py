"""Work that goes on after the call that began it, and that any worker of the machine can be asked
about.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Final, Protocol

from core.errors import OperationNotFound, StandingsError
from core.ports import Clock

_log = logging.getLogger(__name__)

_SHARDS_MAX: Final = 1_000
_STEP_S: Final = 0.25
"""How often progress is told, and how soon a stop that was asked for is heard of."""


class OperationKind(IntEnum):
    """What an operation does."""

    VERIFY = 1
    REBUILD = 2


class OperationState(IntEnum):
    """How an operation is."""

    RUNNING = 1
    DONE = 2
    FAILED = 3
    CANCELLED = 4


@dataclass(frozen=True, slots=True)
class OperationShard:
    """What an operation found or did on one shard of one season."""

    board_id: str
    season_id: str
    shard: int
    database_entry_count: int = 0
    index_entry_count: int = 0
    difference_count: int = 0
    user_ids: tuple[int, ...] = ()
    rebuilt: bool = False


@dataclass(frozen=True, slots=True)
class Operation:
    """An operation at one moment. `error_reason` and `error_text` say why it failed."""

    operation_id: str
    kind: OperationKind
    create_time_ms: int
    state: OperationState = OperationState.RUNNING
    end_time_ms: int | None = None
    done_count: int = 0
    total_count: int = 0
    entry_count: int = 0
    shards: tuple[OperationShard, ...] = ()
    error_reason: str = ""
    error_text: str = ""


class OperationStore(Protocol):
    """The operations of a machine, whichever worker runs them."""

    async def begin(self, operation: Operation) -> None:
        """Takes in a new one, as run by this process; old ones are forgotten."""

    async def save(self, operation: Operation) -> None:
        """Stores how one of this process's is. Once it has ended, it is nobody's."""

    async def get(self, operation_id: str) -> Operation | None:
        """As it was stored last; a running one whose process has died as cancelled."""

    async def all(self) -> Sequence[Operation]:
        """All of them, newest first."""

    async def ask_to_stop(self, operation_id: str) -> None:
        """Leaves word for whoever runs it."""

    async def must_stop(self, operation_id: str) -> bool:
        """Whether such word was left."""


class Stopped(Exception):
    """Somebody asked the operation to end."""


@dataclass(slots=True)
class Progress:
    """How a running operation tells what it has done, and hears that it must stop."""

    operation: Operation
    store: OperationStore
    clock: Clock
    _told_at_s: float = 0.0

    async def step(
        self, entries: int = 0, *, shards: Sequence[OperationShard] = (), done: int = 0
    ) -> None:
        """Adds what was done. Raises Stopped; call it where it is safe to end."""
        before = self.operation
        self.operation = replace(
            before,
            entry_count=before.entry_count + entries,
            done_count=before.done_count + done,
            shards=(before.shards + tuple(shards))[:_SHARDS_MAX],
        )
        now_s = self.clock.monotonic_s()
        if now_s - self._told_at_s < _STEP_S:
            return
        self._told_at_s = now_s
        await self.store.save(self.operation)
        if await self.store.must_stop(self.operation.operation_id):
            raise Stopped

    async def total(self, count: int) -> None:
        """Says how many shards of seasons there are to go through."""
        self.operation = replace(self.operation, total_count=count)
        await self.store.save(self.operation)


Work = Callable[[Progress], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Operations:
    """Begins operations in this process, and tells of those of all."""

    store: OperationStore
    clock: Clock
    running: set[asyncio.Task[None]] = field(default_factory=set)

    async def begin(self, kind: OperationKind, work: Work) -> Operation:
        """Begins one; it ends by itself."""
        operation = Operation(uuid.uuid4().hex, kind, self.clock.now_ms())
        await self.store.begin(operation)
        run = self._run(Progress(operation, self.store, self.clock), work)
        # In a context of its own: it must not end with the deadline of the call that began it.
        task = asyncio.create_task(run, context=Context())
        self.running.add(task)
        task.add_done_callback(self.running.discard)
        return operation

    async def get(self, operation_id: str) -> Operation:
        """How one is. Raises OperationNotFound."""
        operation = await self.store.get(operation_id)
        if operation is None:
            raise OperationNotFound
        return operation

    async def all(self) -> Sequence[Operation]:
        """Those of the last day, newest first."""
        return await self.store.all()

    async def cancel(self, operation_id: str) -> Operation:
        """Asks one to stop; how it is now. Raises OperationNotFound."""
        operation = await self.get(operation_id)
        if operation.state is OperationState.RUNNING:
            await self.store.ask_to_stop(operation_id)
        return operation

    async def aclose(self) -> None:
        """Ends all of this process's."""
        for task in self.running:
            task.cancel()
        await asyncio.gather(*self.running, return_exceptions=True)

    async def _run(self, progress: Progress, work: Work) -> None:
        state, reason, text = OperationState.CANCELLED, "", ""
        try:
            await work(progress)
            state = OperationState.DONE
        except Stopped:
            pass
        except StandingsError as error:
            state, reason, text = OperationState.FAILED, error.reason, str(error)
        except Exception:  # noqa: BLE001  # a bug must not leave an operation running for ever
            _log.exception("an operation failed")
            state, reason, text = OperationState.FAILED, StandingsError.reason, "internal error"
        finally:
            ended = replace(
                progress.operation,
                state=state,
                end_time_ms=self.clock.now_ms(),
                error_reason=reason,
                error_text=text,
            )
            _log.info(
                "an operation has ended",
                extra={"operation_id": ended.operation_id, "state": state.name},
            )
            await self.store.save(ended)
