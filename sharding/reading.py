"""Asks shards of a season something: one call a node, then the doubtful ones alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from core.errors import IndexUnavailable, IndexUnbuilt, ReadBehind
from core.ports import Freshness, IndexView
from sharding.keys import done_key, meta_key, season_keys
from sharding.library import LIBRARY, Argument, Command
from sharding.replies import NodeLost, Reply
from sharding.router import Router

_FINAL: Final = (b"BEHIND", b"SUSPECT")
"""What only a shard's own node says of it: that it lacks a transaction, or may lack some that were
acknowledged, since another history of writes goes on there."""

Replies = dict[int, list[Reply]]
"""Per shard its reply to each round."""


@dataclass(frozen=True, slots=True)
class ShardQuestion:
    """A shard's own part of a question. `args` begin with the names of its keys."""

    keys: tuple[bytes, ...]
    args: tuple[Argument, ...]


@dataclass(frozen=True, slots=True)
class Question:
    """A function, and what is asked of each shard. Each round is a call of its own with its own
    shared arguments, because a call holds up its node.
    """

    function: str
    rounds: Sequence[tuple[Argument, ...]]
    shards: Mapping[int, ShardQuestion]

    def to_node(self, shards: Sequence[int]) -> list[Command]:
        """The calls about all these shards of one node, with no keys declared."""
        args = [arg for shard in shards for arg in self.shards[shard].args]
        return [LIBRARY.read(self.function, (), (*shared, *args)) for shared in self.rounds]

    def to_shard(self, shard: int, shared: tuple[Argument, ...]) -> Command:
        """A call about one shard, which says so to the cluster."""
        one = self.shards[shard]
        return LIBRARY.read(self.function, one.keys, (*shared, *one.args))


async def ask(router: Router, question: Question) -> Replies:
    """What the shards say; where one does not answer, its replies hold the trouble.

    A call to a node cannot be redirected, and what it finds of a shard that is about to move says
    nothing: so whatever is no plain answer is asked again with the keys declared.
    Cost: one round trip, and one more for shards in trouble.
    """
    deadline = router.deadline()
    groups = router.by_node(question.shards)
    calls = {node: question.to_node(shards) for node, shards in groups.items()}
    replies: Replies = {
        shard: [NodeLost("no node is known to own it")] * len(question.rounds)
        for shard in question.shards
    }
    for node, answer in (await router.call_nodes(calls, deadline)).items():
        rounds = [answer] * len(question.rounds) if isinstance(answer, NodeLost) else answer
        for place, shard in enumerate(groups[node]):
            replies[shard] = [one[place] if isinstance(one, list) else one for one in rounds]
    await _ask_alone(router, question, replies, deadline)
    return replies


async def _ask_alone(router: Router, question: Question, replies: Replies, deadline: float) -> None:
    for number, shared in enumerate(question.rounds):
        doubtful = {
            shard: question.to_shard(shard, shared)
            for shard, rounds in replies.items()
            if not isinstance(rounds[number], list) and rounds[number] not in _FINAL
        }
        if doubtful:
            for shard, reply in (await router.call_shards(doubtful, deadline)).items():
                replies[shard][number] = reply[0] if isinstance(reply, list) else reply


@dataclass(frozen=True, slots=True)
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
        questions = {shard: self._question(shard, args) for shard, args in shards.items()}
        replies = await ask(self.router, Question(function, rounds, questions))
        require_answers(replies)
        return replies

    def _question(self, shard: int, args: tuple[Argument, ...]) -> ShardQuestion:
        keys = (meta_key(shard), done_key(shard), *season_keys(shard, self.season_number))
        xids = b",".join(b"%d" % xid for xid in self.fresh.xids.get(shard, ()))
        if xids and self.fresh.ledger:
            xids = self.fresh.ledger + b":" + xids
        return ShardQuestion(keys, (*keys, xids, *args))


def view_of(states: Iterable[tuple[int, int, int]]) -> IndexView:
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
    cause = next((reply for reply in bad.values() if isinstance(reply, Exception)), None)
    raise IndexUnavailable(bad) from cause


def _word(reply: Reply) -> bytes:
    return reply if isinstance(reply, bytes) else b""
