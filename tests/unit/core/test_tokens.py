"""Tokens: what we signed comes back, and nothing else does."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import ConsistencyTokenInvalid, PageTokenInvalid
from core.ports import KeyRange
from core.tokens import TokenSigner, Turn, Walk, Writes, merge_writes

SIGNER = TokenSigner([b"a secret of the tests"])
WALK = Walk(7, KeyRange())
_transactions = st.lists(st.tuples(st.integers(1, 2**53), st.integers(1, 0xFFFF)), max_size=5)


@given(st.integers(0, 2**31), _transactions)
def test_a_consistency_token_says_what_it_was_made_of(
    season: int, transactions: list[tuple[int, int]]
) -> None:
    """Season, transactions and shards come back."""
    writes = Writes(season, tuple(transactions))

    assert SIGNER.writes(SIGNER.consistency(writes)) == writes


def test_writes_are_told_by_shard() -> None:
    """A read of a shard looks for the transactions that touched it, and for no other."""
    writes = merge_writes([(3, 100, 1), (3, 100, 2), (3, 200, 2)])

    assert writes.season_number == 3
    assert writes.by_shard() == {1: (100,), 2: (100, 200)}


def test_writes_of_several_seasons_name_none() -> None:
    """A batch over two boards is good for reads of both."""
    assert merge_writes([(3, 100, 1), (4, 100, 2)]).season_number == 0
    # Also where one of them was left as it was: which, hangs on the scores alone.
    assert merge_writes([(3, 100, 1), (4, 0, 2)]) == Writes(0, ((100, 2),))
    assert merge_writes([(3, 0, 1)]) == Writes(3, ())


@pytest.mark.parametrize("backward", [False, True])
def test_a_page_token_says_where_its_page_begins(*, backward: bool) -> None:
    """The point and the direction come back."""
    turn = Turn(bytes(range(33)), backward=backward)

    assert SIGNER.entries_turn(SIGNER.entries_page(turn, WALK), WALK) == turn


@pytest.mark.parametrize(
    "other",
    [
        Walk(8, KeyRange()),
        Walk(7, KeyRange(low=b"a")),
        Walk(7, KeyRange(high=b"a")),
        Walk(7, KeyRange(low=b"a", high=b"bc")),
        Walk(7, KeyRange(low=b"ab", high=b"cd")),
    ],
)
def test_a_page_token_is_bound_to_its_walk(other: Walk) -> None:
    """The token of another season or range is refused, also where the bytes are the same."""
    token = SIGNER.entries_page(Turn(b"k"), Walk(7, KeyRange(low=b"ab", high=b"c")))

    with pytest.raises(PageTokenInvalid):
        SIGNER.entries_turn(token, other)


@given(st.integers(0, 10**9), st.integers(1, 255))
def test_a_changed_token_is_refused(position: int, change: int) -> None:
    """Whichever byte is changed."""
    token = SIGNER.entries_page(Turn(bytes(32)), WALK)
    place = position % len(token)
    other = token[:place] + chr((ord(token[place]) + change) % 128) + token[place + 1 :]
    if other == token:
        return

    with pytest.raises(PageTokenInvalid):
        SIGNER.entries_turn(other, WALK)


@given(st.text(max_size=80))
def test_no_text_passes_for_a_token(text: str) -> None:
    """Nothing that we did not sign, of any kind."""
    with pytest.raises(PageTokenInvalid):
        SIGNER.entries_turn(text, WALK)
    with pytest.raises(PageTokenInvalid):
        SIGNER.boards_after(text)
    with pytest.raises(ConsistencyTokenInvalid):
        SIGNER.writes(text)


def test_a_token_of_one_kind_is_none_of_another() -> None:
    """A page token does not pass for a consistency token."""
    token = SIGNER.entries_page(Turn(bytes(32)), WALK)

    with pytest.raises(ConsistencyTokenInvalid):
        SIGNER.writes(token)
    with pytest.raises(PageTokenInvalid):
        SIGNER.boards_after(token)


def test_secrets_can_be_rotated() -> None:
    """The one before still opens tokens, and no longer signs them."""
    old, new = TokenSigner([b"old"]), TokenSigner([b"new", b"old"])
    token = old.boards_page("arena")

    assert new.boards_after(token) == "arena"
    with pytest.raises(PageTokenInvalid):
        old.boards_after(new.boards_page("arena"))


def test_a_consistency_token_names_the_ledger_of_its_making() -> None:
    """And keeps that name, whatever ledger there is when it comes back."""
    signer = TokenSigner([b"secret"], lambda: b"the first")
    token = signer.consistency(Writes(3, ((100, 2),)))

    assert TokenSigner([b"secret"], lambda: b"another").writes(token).ledger == b"the "
    assert TokenSigner([b"secret"]).writes(token).by_shard() == {1: (100,)}


def test_a_token_that_was_made_before_names_the_ledger_of_now() -> None:
    """The same writes after another ledger took over are another token."""
    names = [b"1st.", b"2nd."]
    signer = TokenSigner([b"secret"], lambda: names[0])
    writes = Writes(3, ((100, 2),))
    first = signer.consistency(writes)
    assert signer.consistency(writes) == first

    del names[0]

    assert signer.writes(signer.consistency(writes)).ledger == b"2nd."


def test_more_tokens_than_are_kept() -> None:
    """Each is made of its own writes, and again of the same ones it is the same."""
    many = [Writes(3, ((xid, 1),)) for xid in range(1, 300)]

    tokens = [SIGNER.consistency(writes) for writes in many]

    assert [SIGNER.writes(token) for token in tokens] == many
    assert [SIGNER.consistency(writes) for writes in many] == tokens


def test_a_page_of_boards_is_of_one_prefix() -> None:
    """A token is good for the boards that it was made for, and for no others."""
    token = SIGNER.boards_page("arena.daily", "arena.")

    assert SIGNER.boards_after(token, "arena.") == "arena.daily"
    for prefix in ("", "arena", "other."):
        with pytest.raises(PageTokenInvalid):
            SIGNER.boards_after(token, prefix)
    with pytest.raises(PageTokenInvalid):
        SIGNER.boards_after(SIGNER.boards_page("arena.daily"), "arena.")
