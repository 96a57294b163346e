"""Who tried what is audited without being allowed to: recorded, and never so often that it fills
the disk.
"""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf.message import Message

from core.audit_lines import LineKind
from core.errors import AuditUnavailable, BoardNotFound
from server.audit.refusals import Refusals
from server.errors import PermissionDenied, Unauthenticated
from server.identity.identity import Evidence, Identity, Role
from server.rpc.call import CallContext
from server.rpc.methods import Method
from tests.fakes.audit import MemoryAudit

SET_BREAKER = "/standings.v1.AdminService/SetBreaker"
DELETE_USER = "/standings.v1.ModerationService/DeleteUser"
LIST_BREAKERS = "/standings.v1.AdminService/ListBreakers"


class World:
    """The link over an audit in memory, and a clock that stands."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.audit = MemoryAudit()
        self.link = Refusals(self.audit, lambda: self.now_s)

    async def refused(
        self,
        name: str = "game-server/eu1",
        path: str = SET_BREAKER,
        error: Exception | None = None,
        **changes: Any,
    ) -> None:
        """One call that fails, as it would without the link."""
        failure = error or PermissionDenied()

        async def handler(_request: bytes, _call: CallContext) -> None:
            raise failure

        method = Method(path, Message, Message, False, False, print)
        identity = Identity(name, Evidence.TOKEN, frozenset({Role.GAME_SERVER}), **changes)
        call = CallContext(None, {}, lambda: "ipv4:10.0.0.1:9", "a" * 16, identity=identity)
        with pytest.raises(type(failure)):
            await self.link.unary(method, handler)(b"", call)

    @property
    def recorded(self) -> list[tuple[str, int]]:
        """Actor of each line, and how many refusals before it had none."""
        lines = self.audit.written
        return [
            (begun.content["actor"], ended.content["result"]["unrecorded_before"])
            for begun, ended in zip(lines[::2], lines[1::2], strict=True)
        ]


async def test_a_refusal_is_recorded() -> None:
    """Who, what, from where, in which call, and that nothing was done."""
    world = World()
    await world.refused()
    begun, ended = world.audit.written

    wanted = {
        "method": "standings.v1.AdminService/SetBreaker",
        "actor": "game-server/eu1",
        "peer": "ipv4:10.0.0.1:9",
        "request_id": "a" * 16,
    }
    assert wanted.items() <= begun.content.items()
    assert ended.kind is LineKind.OUTCOME
    assert ended.content["action"] == begun.sequence
    assert ended.content["status"] == "PERMISSION_DENIED"
    assert ended.content["result"] == {"done": False, "unrecorded_before": 0}


@pytest.mark.parametrize(
    ("path", "error"),
    [
        (LIST_BREAKERS, PermissionDenied()),
        (SET_BREAKER, Unauthenticated("no certificate")),
        (SET_BREAKER, BoardNotFound()),
    ],
    ids=["not audited", "nobody", "another failure"],
)
async def test_nothing_else_is(path: str, error: Exception) -> None:
    """What only reads, whom nobody knows, and what was allowed and failed."""
    world = World()
    await world.refused(path=path, error=error)

    assert world.recorded == []


async def test_of_one_caller_and_method_there_is_a_line_an_hour() -> None:
    """The next one says how many there were between; another method or caller has its own."""
    world = World()
    for _ in range(500):
        await world.refused()
    await world.refused(path=DELETE_USER)
    await world.refused("game-server/eu2")
    assert world.recorded == [
        ("game-server/eu1", 0),
        ("game-server/eu1", 0),
        ("game-server/eu2", 0),
    ]

    world.now_s = 3600
    await world.refused()
    assert world.recorded[3:] == [("game-server/eu1", 499)]


async def test_whatever_callers_there_are_it_is_bounded() -> None:
    """A day of many callers a second: twenty lines at once, then one a minute."""
    world = World()
    for number in range(5000):
        world.now_s = number * 86_400 / 5000
        await world.refused(f"game-server/{number}")

    assert 20 < len(world.recorded) <= 20 + 24 * 60


async def test_players_of_a_game_count_as_one() -> None:
    """There are many: else they would take the room of all others."""
    world = World()
    for user in range(1, 100):
        await world.refused(f"client/arena/{user}", user_id=user, game="arena")
    await world.refused("client/other/7", user_id=7, game="other")
    await world.refused()

    assert [actor for actor, _ in world.recorded] == [
        *("client/arena/1", "client/other/7", "game-server/eu1")
    ]


async def test_what_cannot_be_recorded_is_refused_all_the_same() -> None:
    """With the same error."""
    world = World()
    world.audit.error = AuditUnavailable()
    await world.refused()

    assert world.recorded == []
