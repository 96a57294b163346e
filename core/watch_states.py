"""What watchers of a board are told, and the states that lie between two messages."""

from __future__ import annotations

import hashlib
import struct
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from core.types import RankedEntry, RankMode, ReadMeta

DIGEST_BYTES: Final = 16
NO_STATE: Final = bytes(DIGEST_BYTES)
"""The digest of having seen nothing yet; no state has it."""

_STATES_PER_QUESTION_MAX: Final = 32
_ENTRIES_MAX: Final = 500_000
"""8 bytes each where a state shares its entries with the one before, about 300 where it does
not."""
_STATE_AS_ENTRIES: Final = 8
"""What a state itself counts, so that many empty ones are bounded, too."""
_ENTRY = struct.Struct(">qqqqq")


class WatchEvent(IntEnum):
    """What a message of a watch tells."""

    SNAPSHOT = 1
    CHANGES = 2
    HEARTBEAT = 3
    GAP = 4
    SEASON_CHANGE = 5


@dataclass(frozen=True, slots=True)
class WatchTarget:
    """What is followed: `top_count` entries from the top, or else some different users in
    ascending order, so that the same question is always the same target.
    """

    top_count: int = 0
    user_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class WatchMessage:
    """One message, shared by all watchers who are told the same.

    `entries` best first; `resume_token` stands for the state after it.
    """

    event: WatchEvent
    entries: tuple[RankedEntry, ...]
    removed_user_ids: tuple[int, ...]
    meta: ReadMeta
    resume_token: str


@dataclass(frozen=True, slots=True, eq=False)
class WatchState:
    """All entries of a target at one moment, best first. `digest` names the content: two states
    with the same one are equal, in whatever worker they were read.
    """

    entries: tuple[RankedEntry, ...]
    digest: bytes


def state_of(entries: Sequence[RankedEntry]) -> WatchState:
    """The state of some entries."""
    digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for entry in entries:
        standing = entry.standing
        digest.update(
            _ENTRY.pack(
                standing.user_id,
                entry.rank,
                standing.score,
                standing.subscore,
                standing.achieve_time_ms,
            )
        )
    return WatchState(tuple(entries), digest.digest())


def question_digest(board_id: str, mode: RankMode, target: WatchTarget) -> bytes:
    """Names a question: its board, rank mode and target, but no season."""
    content = repr((board_id, int(mode), target.top_count, target.user_ids))
    return hashlib.blake2b(content.encode(), digest_size=DIGEST_BYTES).digest()


def difference(old: WatchState, new: WatchState) -> tuple[tuple[RankedEntry, ...], tuple[int, ...]]:
    """The entries of `new` that `old` does not have or has otherwise, best first, and the users
    of `old` that `new` does not have.
    """
    left = {entry.standing.user_id: entry for entry in old.entries}
    changed = tuple(
        entry for entry in new.entries if left.pop(entry.standing.user_id, None) != entry
    )
    return changed, tuple(left)


class KnownStates:
    """The last states of every question, so that a watcher who comes back is told what changed.

    Up to 32 of each; of all together so many that they hold 500,000 entries, where each state
    counts as 8 more. The questions that have not changed for longest go first. A state that went
    only costs a watcher a snapshot.
    """

    def __init__(self) -> None:
        self._questions: OrderedDict[tuple[int, bytes], OrderedDict[bytes, WatchState]]
        self._questions = OrderedDict()
        self._entry_count = 0

    def note(self, season_number: int, question: bytes, state: WatchState) -> None:
        """Keeps a state as the latest of a question."""
        key = (season_number, question)
        states = self._questions.setdefault(key, OrderedDict())
        self._questions.move_to_end(key)
        if states.pop(state.digest, None) is None:
            self._entry_count += _weight(state)
        states[state.digest] = state
        if len(states) > _STATES_PER_QUESTION_MAX:
            _, oldest = states.popitem(last=False)
            self._entry_count -= _weight(oldest)
        while self._entry_count > _ENTRIES_MAX and len(self._questions) > 1:
            _, forgotten = self._questions.popitem(last=False)
            self._entry_count -= sum(map(_weight, forgotten.values()))

    def get(self, season_number: int, question: bytes, digest: bytes) -> WatchState | None:
        """The state of a digest, None where it is not kept."""
        states = self._questions.get((season_number, question))
        return None if states is None else states.get(digest)


def _weight(state: WatchState) -> int:
    return len(state.entries) + _STATE_AS_ENTRIES
