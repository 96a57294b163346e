"""Board definitions in PostgreSQL."""

import pytest

from core.errors import BoardExists, BoardNotFound, EtagMismatch
from core.types import Operator, SortOrder
from tests.fakes.making import board_spec, submission
from tests.integration.storage.conftest import Store


async def test_a_board_comes_back_as_it_was_made(store: Store) -> None:
    """All fields survive, and the first season is open."""
    spec = board_spec(
        "race-1", sort_order=SortOrder.ASCENDING, operator=Operator.SET, min_score=-5, max_score=9
    )

    made = await store.create(spec)

    assert made == await store.boards.get("race-1")
    assert made.spec == spec
    assert made.season.season_id == "s1"


async def test_a_name_is_taken_once_and_free_after_deletion(store: Store) -> None:
    """A new board of an old name is another board: nothing of the old one is in it."""
    old = await store.create(board_spec())
    await store.record_one(old, submission(1, 5))
    with pytest.raises(BoardExists):
        await store.create(board_spec())

    await store.boards.delete("board", etag=old.etag)
    with pytest.raises(BoardNotFound):
        await store.boards.get("board")
    new = await store.create(board_spec())

    assert (new.number, new.season.number) != (old.number, old.season.number)
    assert await store.ledger.standings(new.season.number, [1]) == {}


async def test_an_update_changes_only_what_it_names(store: Store) -> None:
    """The named fields change, the version moves on, and null takes a bound away."""
    board = await store.create(board_spec(min_score=1, max_score=9))

    changed = await store.boards.update(
        "board", {"title": "Arena", "max_score": None, "metadata": '{"a":1}'}, etag=board.etag
    )

    assert changed.spec.title == "Arena"
    assert (changed.spec.min_score, changed.spec.max_score) == (1, None)
    assert changed.version == board.version + 1
    assert changed.etag != board.etag


@pytest.mark.parametrize(
    "etag",
    ["1-7", "x", "ffff-1", "1-1-1", "ffffffffff-1", "1-" + "f" * 20, "0x1-1", " 1-1", "1_0-1"],
)
async def test_a_wrong_etag_changes_nothing(store: Store, etag: str) -> None:
    """An etag of another version, or none of ours, is a mismatch and not a missing board."""
    board = await store.create(board_spec())

    with pytest.raises(EtagMismatch):
        await store.boards.update("board", {"title": "x"}, etag=etag)
    with pytest.raises(EtagMismatch):
        await store.boards.delete("board", etag=etag)

    assert await store.boards.get("board") == board


async def test_what_is_not_there_cannot_be_changed(store: Store) -> None:
    """Changing or deleting a board that is not there says so, with an etag or without."""
    for etag in ("", "1-1"):
        with pytest.raises(BoardNotFound):
            await store.boards.update("nobody", {"title": "x"}, etag=etag)
        with pytest.raises(BoardNotFound):
            await store.boards.delete("nobody", etag=etag)


async def test_boards_are_listed_by_name(store: Store) -> None:
    """A page begins behind a name and holds no deleted board."""
    for name in ("b", "a", "d", "c"):
        await store.create(board_spec(name))
    await store.boards.delete("c", etag="")

    page = await store.boards.list(after="a", limit=2)

    assert [board.spec.board_id for board in page] == ["b", "d"]
