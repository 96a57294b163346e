"""Asks shards of a season something: one call a node, then the doubtful ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from core.errors import IndexUnbuilt, ReadBehind
from core.ports import Freshness, IndexView
from core.values import value
from sharding.guards import Passage
from sharding.keys import read_keys
from sharding.library import LIBRARY, Argument, Command
from sharding.metrics import ASKED_ALONE
from sharding.replies import NodeLost, Reply, unavailable
from sharding.router import Router

_FINAL: Final = (b"BEHIND", b"SUSPECT")
"""What only a shard's own node says of it: that it lacks a transaction, or may lack some that were
acknowledged, since another history of writes goes on there."""

Replies = dict[int, list[Reply]]
"""Per shard its reply to each round."""


@value
class Question:
    """A function, and what is asked of each shard: its own arguments, of which the first
    `key_count` are the names of its keys. Each round is a call of its own with its own shared
    arguments, because a call holds up its node.
    """

    function: str
    rounds: Sequence[tuple[Argument, ...]]
    key_count: int
    shards: Mapping[int, tuple[Argument, ...]]

    def to_node(self, shards: Sequence[int]) -> list[Command]:
        """The calls about all these shards of one node, with no keys declared."""
        args = [arg for shard in shards for arg in self.shards[shard]]
        return [LIBRARY.read(self.function, (), (*shared, *args)) for shared in self.rounds]

    def to_shard(self, shard: int, shared: tuple[Argument, ...]) -> Command:
        """A call about one shard, which says so to the cluster."""
        args = self.shards[shard]
        return LIBRARY.read(self.function, args[: self.key_count], (*shared, *args))


async def ask(router: Router, question: Question, deadline: float) -> Replies:
    """What the shards say; where one does not answer, its replies hold the trouble.

    A call to a node cannot be redirected, and what it finds of a shard that is about to move says
    nothing: so whatever is no plain answer is asked again with the keys declared.
    Cost: one round trip, and one more for shards in trouble; none for those whose breaker is open.
    """
    with router.guards.admit(question.shards, deadline) as passage:
        replies = await router.guards.through(
            passage, deadline, lambda: _ask(router, question, passage, deadline)
        )
        passage.settle({shard: _worst(rounds) for shard, rounds in _not_plain(replies)})
    for shard, refusal in passage.refused.items():
        replies[shard] = [refusal] * len(question.rounds)
    return replies


async def _ask(router: Router, question: Question, passage: Passage, deadline: float) -> Replies:
    groups = router.by_node(passage.shards)
    calls = {node: question.to_node(shards) for node, shards in groups.items()}
    replies: Replies = {}
    for node, answer in (await router.call_nodes(calls, deadline)).items():
        if isinstance(answer, NodeLost):
            replies.update((shard, [answer] * len(question.rounds)) for shard in groups[node])
            continue
        passage.took(groups[node], answer.took_s)
        for place, shard in enumerate(groups[node]):
            replies[shard] = [one[place] if isinstance(one, list) else one for one in answer]
    for shard in passage.shards:
        if shard not in replies:
            replies[shard] = [NodeLost("no node is known to own it")] * len(question.rounds)
    if doubtful := dict(_not_plain(replies)):
        await _ask_alone(router, question, doubtful, deadline)
    return replies


async def _ask_alone(
    router: Router, question: Question, replies: Mapping[int, list[Reply]], deadline: float
) -> None:
    """Asks for those replies again that are doubtful, and puts the new ones in their places."""
    for number, shared in enumerate(question.rounds):
        doubtful = {
            shard: question.to_shard(shard, shared)
            for shard, rounds in replies.items()
            if _is_doubtful(rounds[number])
            and (not isinstance(rounds[number], NodeLost) or router.may_try_again(shard, deadline))
        }
        if doubtful:
            ASKED_ALONE.inc(len(doubtful))
            for shard, reply in (await router.follow_shards(doubtful, deadline)).items():
                replies[shard][number] = reply[0] if isinstance(reply, list) else reply


def _not_plain(replies: Replies) -> Iterator[tuple[int, list[Reply]]]:
    """The shards of which some reply is no answer, which most have none of."""
    for shard, rounds in replies.items():
        for reply in rounds:
            if not isinstance(reply, list):
                yield shard, rounds
                break


def _is_doubtful(reply: Reply) -> bool:
    return not isinstance(reply, list) and reply not in _FINAL


def _worst(rounds: Sequence[Reply]) -> Reply:
    """What went wrong in some round; else the first reply."""
    for reply in rounds:
        if isinstance(reply, Exception):
            return reply
    return rounds[0] if rounds else None


@value
class SeasonRead:
    """One read of a season, of as many questions as it takes."""

    router: Router
    season_number: int
    fresh: Freshness

    async def ask(
        self,
        function: str,
        rounds: Sequence[tuple[Argument, ...]],
        shards: Mapping[int, tuple[Argument, ...]],
    ) -> Replies:
        """What shards say to a function, each given its own arguments after those of its round.

        Raises IndexUnbuilt, IndexUnavailable, ReadBehind. Cost: as `ask`.
        """
        keys = read_keys(self.season_number)
        own = {shard: (*keys[shard], self._xids(shard), *args) for shard, args in shards.items()}
        question = Question(function, rounds, len(keys[0]), own)
        replies = await ask(self.router, question, self.router.read_deadline())
        require_answers(replies)
        return replies

    def _xids(self, shard: int) -> bytes:
        """What a shard has to show, as its functions want it said."""
        wanted = self.fresh.xids.get(shard)
        if not wanted:
            return b""
        xids = b",".join(b"%d" % xid for xid in wanted)
        return self.fresh.ledger + b":" + xids if self.fresh.ledger else xids


def view_of(states: Iterable[Sequence[int]]) -> IndexView:
    """What the (epoch, live entries, caught_up_ms) of some shards are together: the youngest build,
    all entries, and the mark that is furthest behind.
    """
    epochs, counts, caught_up_ms = zip(*states, strict=True)
    return IndexView(max(epochs), sum(counts), min(caught_up_ms))


def require_answers(replies: Replies) -> None:
    """Raises IndexUnbuilt, IndexUnavailable or ReadBehind, with all shards that did not answer."""
    bad = {
        shard: reply
        for shard, rounds in replies.items()
        for reply in rounds
        if not isinstance(reply, list)
    }
    if not bad:
        return
    words = set(map(_word, bad.values()))
    if words & {b"UNBUILT", b"BROKEN"}:
        raise IndexUnbuilt(bad)
    if words == {b"BEHIND"}:
        raise ReadBehind(bad)
    raise unavailable(bad)


def _word(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else b""
