"""Asks shards of a season something: one call a node, then the doubtful ones alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from core.errors import IndexUnavailable, IndexUnbuilt, ReadBehind
from sharding.library import LIBRARY, Argument, Command
from sharding.replies import NodeLost, Reply
from sharding.router import Router

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
            if not isinstance(rounds[number], list) and rounds[number] != b"BEHIND"
        }
        if doubtful:
            for shard, reply in (await router.call_shards(doubtful, deadline)).items():
                replies[shard][number] = reply[0] if isinstance(reply, list) else reply


def require_answers(replies: Replies) -> None:
    """Raises IndexUnbuilt, IndexUnavailable or ReadBehind unless every shard answered."""
    bad = [reply for rounds in replies.values() for reply in rounds if not isinstance(reply, list)]
    if not bad:
        return
    if b"UNBUILT" in bad or b"BROKEN" in bad:
        raise IndexUnbuilt
    for reply in bad:
        if reply != b"BEHIND":
            raise IndexUnavailable from reply if isinstance(reply, Exception) else None
    raise ReadBehind
