"""Whether both stores hold what the owners of the boards were told, all of it and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

from chaos.soak.owners import Owner
from chaos.stores import Found


def compare(owner: Owner, found: Found) -> Iterator[str]:
    """All that is not as the owner knows it. The board was empty when the owner began."""
    events = found.events.keys()
    if lost := owner.taken - events:
        yield f"{found.board}: {len(lost)} acknowledged submissions are lost, {min(lost)} of them"
    if more := events - owner.taken:
        yield f"{found.board}: {len(more)} submissions nobody knows of, {min(more)} of them"
    entries = found.after.entries
    for user in owner.totals.keys() | entries.keys():
        right = (owner.totals.get(user), owner.counts[user])
        have = entries.get(user)
        if have is None or (have.score, have.count) != right:
            yield f"{found.board}: user {user} should have {right}, and has {have}"
    if found.index != found.after.keys():
        yield f"{found.board}: the index does not hold what PostgreSQL does"
