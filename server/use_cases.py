"""All that the listeners can be asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from core.batch_get_entries import BatchGetEntries
from core.get_entry import GetEntry
from core.list_entries import ListEntries
from core.list_shards import ListShards
from core.manage_boards import ManageBoards
from core.submit_scores import SubmitScores


@dataclass(frozen=True, slots=True)
class UseCases:
    """The use cases of the core. `new_submission_id` makes a UUIDv7 as text."""

    submit_scores: SubmitScores
    get_entry: GetEntry
    batch_get_entries: BatchGetEntries
    list_entries: ListEntries
    manage_boards: ManageBoards
    list_shards: ListShards
    new_submission_id: Callable[[], str]
