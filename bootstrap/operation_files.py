"""The operations of a machine in files, so that each worker can tell of those of the others.

One JSON file an operation, written anew and put in place. Who runs it holds a lock that ends with
the process, so that nobody has to guess who is still alive.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from bootstrap.state_files import replace_file
from core.operations import Operation, OperationKind, OperationShard, OperationState
from core.ports import Clock

_KEPT_MAX: Final = 100
_KEPT_MS: Final = 24 * 3600 * 1000
_ID: Final = re.compile(r"[0-9a-f]{32}")


class OperationFiles:
    """The `OperationStore` port over a folder that all workers of a machine share."""

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._locks: dict[str, int] = {}

    async def begin(self, operation: Operation) -> None:
        """See `OperationStore.begin`."""
        await asyncio.to_thread(self._begin, operation)

    async def save(self, operation: Operation) -> None:
        """See `OperationStore.save`."""
        await asyncio.to_thread(self._save, operation)

    async def get(self, operation_id: str) -> Operation | None:
        """See `OperationStore.get`."""
        return await asyncio.to_thread(self._get, operation_id)

    async def all(self) -> Sequence[Operation]:
        """See `OperationStore.all`."""
        return await asyncio.to_thread(self._all)

    async def ask_to_stop(self, operation_id: str) -> None:
        """See `OperationStore.ask_to_stop`."""
        await asyncio.to_thread(self._path(operation_id, "stop").touch)

    async def must_stop(self, operation_id: str) -> bool:
        """See `OperationStore.must_stop`."""
        return await asyncio.to_thread(self._path(operation_id, "stop").exists)

    def _begin(self, operation: Operation) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._forget_old()
        path = self._path(operation.operation_id, "lock")
        lock = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._locks[operation.operation_id] = lock
        self._save(operation)

    def _save(self, operation: Operation) -> None:
        text = json.dumps(asdict(operation))
        try:
            replace_file(self._path(operation.operation_id, "json"), text.encode(), sync=False)
        finally:
            if operation.state is not OperationState.RUNNING:
                # Also where its last word could not be written: it is told as cancelled then.
                os.close(self._locks.pop(operation.operation_id))

    def _get(self, operation_id: str) -> Operation | None:
        if _ID.fullmatch(operation_id) is None:
            return None
        # Before the file is read: whoever ends an operation lets go of it after its last word.
        alive = self._is_held(operation_id)
        try:
            text = self._path(operation_id, "json").read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        operation = _decode(json.loads(text))
        if operation.state is OperationState.RUNNING and not alive:
            return replace(operation, state=OperationState.CANCELLED)
        return operation

    def _all(self) -> Sequence[Operation]:
        found = filter(None, map(self._get, self._ids()))
        oldest_ms = self._clock.now_ms() - _KEPT_MS
        young = [one for one in found if one.create_time_ms >= oldest_ms]
        return sorted(young, key=lambda one: one.create_time_ms, reverse=True)

    def _ids(self) -> Iterator[str]:
        return (path.stem for path in self._folder.glob("*.json"))

    def _is_held(self, operation_id: str) -> bool:
        try:
            lock = os.open(self._path(operation_id, "lock"), os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        else:
            return False
        finally:
            os.close(lock)

    def _forget_old(self) -> None:
        """Removes the files of all that have ended but the newest, with room for one more."""
        kept = {one.operation_id for one in self._all()[: _KEPT_MAX - 1]}
        for operation_id in list(self._ids()):
            if operation_id not in kept and not self._is_held(operation_id):
                for suffix in ("json", "lock", "stop"):
                    self._path(operation_id, suffix).unlink(missing_ok=True)

    def _path(self, operation_id: str, suffix: str) -> Path:
        return self._folder / f"{operation_id}.{suffix}"


def _decode(data: dict[str, Any]) -> Operation:
    shards = tuple(
        OperationShard(**{**shard, "user_ids": tuple(shard["user_ids"])})
        for shard in data.pop("shards")
    )
    kind, state = OperationKind(data.pop("kind")), OperationState(data.pop("state"))
    return Operation(kind=kind, state=state, shards=shards, **data)
