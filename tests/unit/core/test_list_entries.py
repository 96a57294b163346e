"""Pages of a board: what they cost, and where there is nothing to show."""

from typing import Any

import pytest

from core.errors import PageTokenInvalid
from core.list_entries import EntryPage, ListEntries
from core.types import Board, RankMode, ReadOptions, ScoreRange, Season
from tests.fakes.making import board_spec
from tests.fakes.memory_index import MemoryIndex, reading_of

BOARD = Board(1, board_spec(), Season(1, "s1"), 1, 0, 0)
OTHER = Board(2, board_spec("other"), Season(2, "s1"), 1, 0, 0)
COMPETITION = ReadOptions(rank_mode=RankMode.COMPETITION)


class Lister:
    """Ten users with the scores 5, 5, 4, 4, ... 1, 1; the page after it is asked in one line."""

    def __init__(self, board: Board = BOARD) -> None:
        self.index = MemoryIndex()
        for user_id in range(1, 11):
            entry = (user_id, 5 - (user_id - 1) // 2, 0)
            self.index.put(board, entry, arrival=user_id)
        self.list_entries = ListEntries(reading_of(self.index, board))

    async def __call__(self, **arguments: Any) -> EntryPage:
        """A page of three from the top, unless told otherwise; `asked` is of this call."""
        self.index.asked.clear()
        question: dict[str, Any] = {
            "page_size": 3,
            "page_token": "",
            "start_rank": None,
            "scores": ScoreRange(),
            "options": ReadOptions(),
        }
        return await self.list_entries("board", **{**question, **arguments})


@pytest.fixture
def page_of() -> Lister:
    """Asks for pages."""
    return Lister()


def users(page: EntryPage) -> list[int]:
    """Who is on a page."""
    return [entry.standing.user_id for entry in page.entries]


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ({}, ["window"]),
        ({"start_rank": 1}, ["window"]),
        ({"start_rank": 5}, ["page_at"]),
        ({"start_rank": 5, "scores": ScoreRange(low=1)}, ["page_at", "window"]),
        ({"start_rank": 5, "options": COMPETITION}, ["page_at"]),
        ({"start_rank": 6, "options": COMPETITION}, ["page_at", "count_before"]),
        ({"start_rank": 2, "options": COMPETITION}, ["page_at"]),
        ({"scores": ScoreRange(high=3), "options": COMPETITION}, ["window"]),
    ],
)
async def test_a_page_asks_no_more_than_it_must(
    page_of: Lister, question: dict[str, Any], asked: list[str]
) -> None:
    """Equals before a page are counted only where the entry before it is one."""
    await page_of(**question)

    assert page_of.index.asked == asked


async def test_a_token_costs_one_question_either_way(page_of: Lister) -> None:
    """From the next page back to this one, and only there are equals counted."""
    first = await page_of()
    second = await page_of(page_token=first.next_page_token)
    assert (users(second), page_of.index.asked) == ([4, 5, 6], ["window"])

    back = await page_of(page_token=second.previous_page_token)
    assert (users(back), page_of.index.asked) == ([1, 2, 3], ["window"])

    again = await page_of(page_token=first.next_page_token, options=COMPETITION)
    assert [entry.rank for entry in again.entries] == [3, 5, 5]
    assert page_of.index.asked == ["window", "count_before"]


async def test_page_size_and_rank_mode_may_change_on_the_way(page_of: Lister) -> None:
    """A token says where to go on, and nothing of how much to show."""
    token = (await page_of()).next_page_token

    page = await page_of(page_token=token, page_size=100, options=COMPETITION)

    assert users(page) == [4, 5, 6, 7, 8, 9, 10]
    assert (page.next_page_token, bool(page.previous_page_token)) == ("", True)


async def test_a_rank_past_the_end_shows_nothing_and_leads_back(page_of: Lister) -> None:
    """With a true word about the season; nothing leads back on an empty board."""
    page = await page_of(start_rank=2**63 - 1)
    assert (users(page), page.next_page_token, page.meta.entry_count) == ([], "", 10)

    last = await page_of(page_token=page.previous_page_token)
    assert (users(last), last.next_page_token) == ([8, 9, 10], "")

    inside = await page_of(start_rank=9, scores=ScoreRange(low=4))
    best = await page_of(page_token=inside.previous_page_token, scores=ScoreRange(low=4))
    assert (users(inside), users(best)) == ([], [2, 3, 4])

    page_of.index.items.clear()
    nobody = await page_of(start_rank=3)
    assert (users(nobody), nobody.previous_page_token, nobody.next_page_token) == ([], "", "")


async def test_a_page_whose_entries_all_left_still_leads_on(page_of: Lister) -> None:
    """Backward from the fourth, whoever stood before it is gone."""
    second = await page_of(start_rank=4)
    for user_id in (1, 2, 3):
        del page_of.index.items[1][user_id]

    empty = await page_of(page_token=second.previous_page_token)
    following = await page_of(page_token=empty.next_page_token)

    assert (users(empty), empty.previous_page_token) == ([], "")
    assert users(following) == [4, 5, 6]


async def test_a_token_of_another_question_is_refused(page_of: Lister) -> None:
    """Of another board, of another range, or without its range."""
    of_all = (await page_of()).next_page_token
    of_some = (await page_of(scores=ScoreRange(low=2))).next_page_token
    of_other = (await Lister(OTHER)()).next_page_token

    for token, scores in (
        (of_all, ScoreRange(low=2)),
        (of_some, ScoreRange()),
        (of_some, ScoreRange(low=1)),
        (of_some, ScoreRange(high=2)),
        (of_other, ScoreRange()),
        (of_all[:-1], ScoreRange()),
    ):
        with pytest.raises(PageTokenInvalid):
            await page_of(page_token=token, scores=scores)
