"""What the servicers call. Each is a use case of the core, or a fake with the same shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from core.batch_get_entries import EntryList
from core.errors import StandingsError
from core.list_entries import EntryPage
from core.submit_scores import SubmitResults
from core.types import (
    Board,
    BoardSpec,
    RankedEntry,
    ReadMeta,
    ReadOptions,
    ShardReport,
    Submission,
)

ResultT = TypeVar("ResultT")
Answer: TypeAlias = Coroutine[Any, Any, ResultT]


class SubmitScores(Protocol):
    """Records submissions: results of the same length and order, an error given goes through in
    its place. Raises QueueFull, and then none of them was taken.
    """

    def __call__(
        self, submissions: Sequence[Submission | StandingsError], /
    ) -> Answer[SubmitResults]:
        """What became of them."""

    def enqueue(
        self, submissions: Sequence[Submission | StandingsError], /, *, source: Hashable
    ) -> Answer[Awaitable[SubmitResults]]:
        """Returns when they have their place in line; await what it returns for the results.

        Submissions of one `source` arrive in the order of the calls, if each call is awaited
        before the next.
        """


class GetEntry(Protocol):
    """One user's entry. Raises BoardNotFound, SeasonNotFound, EntryNotFound, Unavailable."""

    def __call__(
        self, board_id: str, user_id: int, options: ReadOptions, /
    ) -> Answer[tuple[RankedEntry, ReadMeta]]:
        """The entry with its rank."""


class BatchGetEntries(Protocol):
    """The entries of some users. Raises BoardNotFound, SeasonNotFound, Unavailable."""

    def __call__(
        self, board_id: str, user_ids: Sequence[int], options: ReadOptions, /
    ) -> Answer[EntryList]:
        """The entries found, best first, and who has none."""


class ListEntries(Protocol):
    """A page of a board. Raises BoardNotFound, SeasonNotFound, PageTokenInvalid, Unavailable."""

    def __call__(
        self,
        board_id: str,
        /,
        *,
        page_size: int,
        page_token: str,
        start_rank: int | None,
        options: ReadOptions,
    ) -> Answer[EntryPage]:
        """The entries, best first."""


class ManageBoards(Protocol):
    """Definitions of boards."""

    def create(self, spec: BoardSpec, /) -> Answer[Board]:
        """Makes a board with one open season. Raises BoardExists."""

    def get(self, board_id: str, /) -> Answer[Board]:
        """One board. Raises BoardNotFound."""

    def list(self, *, page_size: int, page_token: str) -> Answer[tuple[Sequence[Board], str]]:
        """A page of boards by name, and the token of the next page. Raises PageTokenInvalid."""

    def update(
        self, board_id: str, changes: Mapping[str, object], /, *, etag: str
    ) -> Answer[Board]:
        """The changed board. Raises BoardNotFound, EtagMismatch, InvalidInput."""

    def delete(self, board_id: str, /, *, etag: str) -> Answer[None]:
        """Ends a board. Raises BoardNotFound, EtagMismatch."""


class ListShards(Protocol):
    """The shards of the index."""

    def __call__(self) -> Answer[Sequence[ShardReport]]:
        """All 16, in order."""


@dataclass(frozen=True, slots=True)
class UseCases:
    """All that the listeners can be asked for. `new_submission_id` makes a UUIDv7 as text."""

    submit_scores: SubmitScores
    get_entry: GetEntry
    batch_get_entries: BatchGetEntries
    list_entries: ListEntries
    manage_boards: ManageBoards
    list_shards: ListShards
    new_submission_id: Callable[[], str]
