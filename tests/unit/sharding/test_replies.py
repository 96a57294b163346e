"""What the errors of a node ask for."""

from __future__ import annotations

import pytest
from hiredis import ReplyError

from sharding.replies import NodeLost, Reply, Trouble, target_of, trouble_in
from sharding.slot_map import Address


@pytest.mark.parametrize(
    ("reply", "trouble"),
    [
        (b"MOVED", None),
        (None, None),
        ([ReplyError("MOVED 1 a:1")], None),
        (NodeLost(), Trouble.LOST),
        (ReplyError("MOVED 1 a:1"), Trouble.MOVED),
        (ReplyError("ASK 1 a:1"), Trouble.ASK),
        (ReplyError("TRYAGAIN Multiple keys"), Trouble.TRY_AGAIN),
        (ReplyError("ERR Function not found"), Trouble.FUNCTION_MISSING),
        (ReplyError("CLUSTERDOWN Hash slot not served"), Trouble.STALE_MAP),
        (ReplyError("LOADING Redis is loading"), Trouble.STALE_MAP),
        (ReplyError("READONLY You can't write"), Trouble.STALE_MAP),
        (ReplyError("OOM command not allowed"), Trouble.OTHER),
    ],
)
def test_each_error_is_told_by_what_helps(reply: Reply, trouble: Trouble | None) -> None:
    """Only errors of the whole reply are trouble."""
    assert trouble_in(reply) is trouble


@pytest.mark.parametrize(
    ("text", "target"),
    [("MOVED 3 b:7", Address("b", 7)), ("ASK 3 :7", Address("asked", 7))],
)
def test_a_redirect_names_its_target(text: str, target: Address) -> None:
    """Without a host it is another port of the node that was asked."""
    assert target_of(ReplyError(text), asked=Address("asked", 1)) == target
