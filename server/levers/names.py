"""Which breakers a name means."""

from __future__ import annotations

from collections.abc import Sequence

from server.errors import UnknownBreaker


def is_parent(name: str) -> bool:
    """Whether a breaker stands for several: "redis", while its shards are "redis/shard-07"."""
    return "/" not in name


def parent_of(name: str) -> str:
    """What a breaker belongs to; a parent belongs to itself."""
    return name.partition("/")[0]


def matching(names: Sequence[str], pattern: str) -> Sequence[str]:
    """The breakers that a name means, in order: itself, or the children of "redis/*", or all
    children for "*". Raises UnknownBreaker.
    """
    if pattern == "*":
        return [name for name in names if not is_parent(name)]
    if pattern.endswith("/*"):
        found = [name for name in names if name.startswith(pattern[:-1])]
    else:
        found = [name for name in names if name == pattern]
    if not found:
        raise UnknownBreaker
    return found


def with_parents(names: Sequence[str], pattern: str) -> Sequence[str]:
    """As matching; a pattern means the parents of its breakers, too. What leaves them to
    themselves has to end all that anybody forced on them.
    """
    found = matching(names, pattern)
    if not pattern.endswith("*"):
        return found
    parents = {parent_of(name) for name in found}
    return [name for name in names if name in parents or name in found]
