"""What a node answered, and what its errors ask us to do."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any

from hiredis import ReplyError

from core.errors import IndexUnavailable
from sharding.slot_map import Address


class NodeLost(Exception):
    """A node did not answer: no connection, a broken one, or no time left.

    Whether the command was carried out is unknown.
    """


class NoAnswer(NodeLost):
    """A node did not answer in time."""


class NodeBusy(NodeLost):
    """More calls wait for a node than may."""


class ShardRefused(NodeLost):
    """A shard was not asked, because it keeps failing."""

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the shard's breaker is open")
        self.retry_after_s = retry_after_s


Reply = bytes | int | list["Reply"] | ReplyError | NodeLost | None
"""As hiredis decodes RESP2; a lost node is an answer too, so that one costs the others nothing."""


class Answer(list[Reply]):
    """What a node replied to some commands, and how long that took."""

    __slots__ = ("took_s",)

    def __init__(self) -> None:
        super().__init__()
        self.took_s = 0.0


def parts_of(reply: Reply, count: int) -> list[Any]:
    """The first parts of what a shard replied to one of our functions, which says what they are:
    to match each with its class would take longer than all else that is done with them. Raises
    TypeError where there are not so many.
    """
    if not isinstance(reply, list) or len(reply) < count:
        raise TypeError("not what the function replies")
    return reply[:count]


class Trouble(Enum):
    """Why a reply is none, by what helps."""

    MOVED = auto()
    ASK = auto()
    TRY_AGAIN = auto()
    FUNCTION_MISSING = auto()
    LOST = auto()
    STALE_MAP = auto()
    """The node is not, or not yet, the one to ask."""
    OTHER = auto()


_BY_CODE = {
    "MOVED": Trouble.MOVED,
    "ASK": Trouble.ASK,
    "TRYAGAIN": Trouble.TRY_AGAIN,
    "CLUSTERDOWN": Trouble.STALE_MAP,
    "LOADING": Trouble.STALE_MAP,
    "READONLY": Trouble.STALE_MAP,
    "MASTERDOWN": Trouble.STALE_MAP,
}


def unavailable(replies: Mapping[int, Reply]) -> IndexUnavailable:
    """What a caller is told of the replies of some shards that are no answers."""
    causes = [reply for reply in replies.values() if isinstance(reply, Exception)]
    waits_s = [cause.retry_after_s for cause in causes if isinstance(cause, ShardRefused)]
    after_ms = max(1, int(max(waits_s) * 1000)) if waits_s else None
    error = IndexUnavailable(replies, retry_after_ms=after_ms)
    error.__cause__ = next(iter(causes), None)
    return error


def trouble_in(reply: Reply) -> Trouble | None:
    """What is wrong with a reply; None where it is an answer."""
    if isinstance(reply, NodeLost):
        return Trouble.LOST
    if not isinstance(reply, ReplyError):
        return None
    text = str(reply)
    if "Function not found" in text:
        return Trouble.FUNCTION_MISSING
    return _BY_CODE.get(text.partition(" ")[0], Trouble.OTHER)


def target_of(error: Reply, *, asked: Address) -> Address:
    """Where MOVED or ASK points; an empty host means the one that was asked."""
    return Address.parse(str(error).split()[2], default_host=asked.host)
