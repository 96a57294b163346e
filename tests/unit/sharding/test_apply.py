"""The grouping of changes into one command a shard."""

from __future__ import annotations

from core.ordering import Item, encode_item
from core.types import EntryState, IndexChange
from sharding.apply import by_shard
from sharding.keys import copy_keys, done_key, meta_key, season_keys


def change(season_number: int, user_id: int, revision: int) -> IndexChange:
    """A change of a user."""
    item = Item(user_id, bytes(24), revision, EntryState.LIVE, 0)
    return IndexChange(season_number, user_id % 16, encode_item(item))


def test_a_user_stands_once_with_the_highest_revision() -> None:
    """In any order, per season."""
    changes = [change(1, 16, 256), change(1, 16, 255), change(1, 32, 1), change(2, 16, 3)]

    batches = by_shard(changes)

    assert [list(batches[0].seasons[1].values())] == [[changes[0].item, changes[2].item]]
    assert list(batches[0].seasons[2].values()) == [changes[3].item]


def test_a_command_declares_the_keys_it_uses_and_no_others() -> None:
    """The copy only of seasons that are known to be built."""
    batch = by_shard([change(1, 16, 1), change(2, 16, 1)])[0]

    command = batch.command(0, b"5,6", {2})

    keys = [meta_key(0), done_key(0), *season_keys(0, 1), *season_keys(0, 2), *copy_keys(0, 2)]
    assert list(command[2 : 3 + len(keys)]) == [len(keys), *keys]
    assert command[3 + len(keys) :] == (
        b"5,6",
        *(1, 0, change(1, 16, 1).item),
        *(2, 1, change(2, 16, 1).item),
    )
