"""Asks PostgreSQL now and then what the index has just answered, and tells where they differ.

A fallback that is never used hides its bugs until it is needed. These reads are few and cheap, an
entry by key and the top of a board, and stop while PostgreSQL is slow (PROTOCOL P14).
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from core.errors import StandingsError
from core.ordering import KEY_BYTES
from core.ports import Clock, EntryReads, Freshness, Index, IndexedEntry, KeyRange

_log = logging.getLogger(__name__)

_TOP_COUNT: Final = 10
_AGAIN_S: Final = 1.0
"""What a write has moved meanwhile is the same on both sides by then; the healer has been there."""
_SLOW_S: Final = 0.1
_PAUSE_S: Final = 10.0
"""After a slow read PostgreSQL is left alone for so long."""
_FRESH: Final = Freshness()


class Shadow(Protocol):
    """Who is told of answers of the index."""

    def user(self, season_number: int, user_id: int, entry: IndexedEntry | None) -> None:
        """A user's entry was read."""

    def top(self, season_number: int, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """The first entries of a season were read."""


class NoShadow:
    """Compares nothing."""

    def user(self, season_number: int, user_id: int, entry: IndexedEntry | None) -> None:
        """Nothing."""

    def top(self, season_number: int, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """Nothing."""


NO_SHADOW: Final = NoShadow()


@dataclass(frozen=True, slots=True)
class _Look:
    """One thing to read on both sides: a user's key, or the keys of the top."""

    season_number: int
    name: str
    read: Callable[[EntryReads], Awaitable[Sequence[bytes]]]


class ShadowReads:
    """Compares up to `per_second` answers; 0: none. `on_compared` is told of each whether the two
    differ. Close it with `aclose`.
    """

    def __init__(
        self,
        index: Index,
        database: EntryReads,
        clock: Clock,
        *,
        per_second: float,
        on_compared: Callable[[bool], None],
    ) -> None:
        self._index = index
        self._database = database
        self._clock = clock
        self._interval_s = 1 / per_second if per_second else 0.0
        self._next_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._on_compared = on_compared

    def user(self, season_number: int, user_id: int, entry: IndexedEntry | None) -> None:
        """See `Shadow.user`."""
        if not self._due():
            return

        async def read(side: EntryReads) -> Sequence[bytes]:
            entries, _ = await side.users(
                season_number, [user_id], cutoff_bytes=KEY_BYTES, fresh=_FRESH
            )
            return _keys(entries.get(user_id))

        self._start(_Look(season_number, "entry", read), _keys(entry))

    def top(self, season_number: int, entries: Sequence[tuple[bytes, bytes]]) -> None:
        """See `Shadow.top`."""
        if not self._due():
            return
        count = min(_TOP_COUNT, len(entries))

        async def read(side: EntryReads) -> Sequence[bytes]:
            window = await side.window(
                season_number, b"", above=0, below=count, within=KeyRange(), fresh=_FRESH
            )
            return [key for key, _ in window.below]

        self._start(_Look(season_number, "top", read), [key for key, _ in entries[:count]])

    async def aclose(self) -> None:
        """Ends the comparisons under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _due(self) -> bool:
        now_s = self._clock.monotonic_s()
        if not self._interval_s or now_s < self._next_s:
            return False
        self._next_s = now_s + self._interval_s
        return True

    def _start(self, look: _Look, shown: Sequence[bytes]) -> None:
        # Not in the context of the call, whose deadline is none of its business.
        task = contextvars.Context().run(asyncio.create_task, self._compare(look, shown))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _compare(self, look: _Look, shown: Sequence[bytes]) -> None:
        try:
            differ = await self._differ(look, shown)
        except StandingsError:
            return
        self._on_compared(differ)
        if differ:
            _log.error(
                "the index differs from the ledger",
                extra={"season_number": look.season_number, "read": look.name},
            )

    async def _differ(self, look: _Look, shown: Sequence[bytes]) -> bool:
        true = await self._timed(look)
        if list(true) == list(shown):
            return False
        await asyncio.sleep(_AGAIN_S)
        # Whatever moved in between is no difference: both must still say what they said.
        still_shown = list(await look.read(self._index)) == list(shown)
        return still_shown and list(await self._timed(look)) == list(true)

    async def _timed(self, look: _Look) -> Sequence[bytes]:
        began_s = self._clock.monotonic_s()
        answer = await look.read(self._database)
        now_s = self._clock.monotonic_s()
        if now_s - began_s > _SLOW_S:
            self._next_s = now_s + _PAUSE_S
        return answer


def _keys(entry: IndexedEntry | None) -> Sequence[bytes]:
    return [] if entry is None else [entry.key]
