"""Every method of both listeners behind the whole chain, with no transport and no store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from server.audit.describing import Known
from server.audit.link import Audit
from server.audit.refusals import Refusals
from server.drain import Drain
from server.health import Health, HealthServicer
from server.reflection import ReflectionServicer
from server.rpc.admin_servicer import AdminServicer
from server.rpc.boards_servicer import BoardsServicer
from server.rpc.call import CallContext
from server.rpc.chain import Route, UnaryRoute, compose
from server.rpc.identification import Identify
from server.rpc.interceptors import default_chain
from server.rpc.methods import method_table
from server.rpc.moderation_servicer import ModerationServicer
from server.rpc.ranking_servicer import RankingServicer
from server.rpc.status import RpcFailure
from server.use_cases import UseCases


def routes_of(use_cases: UseCases, identify: Identify | None = None) -> Mapping[str, Route]:
    """All methods, by path. Who follows breakers or health is sent away at once. Without `identify`
    nobody is asked who calls.
    """
    health, drain = Health(()), Drain()
    health.drain()
    drain.start()
    known = Known(use_cases.levers, use_cases.manage_boards, use_cases.index_operations)
    servicers: tuple[Any, ...] = (
        RankingServicer(use_cases, Drain()),
        BoardsServicer(use_cases.manage_boards),
        ModerationServicer(use_cases.moderate_users),
        AdminServicer(
            use_cases.list_shards,
            use_cases.levers,
            drain,
            use_cases.index_operations,
            use_cases.list_audit_events,
        ),
        HealthServicer(health),
        ReflectionServicer(("standings.v1.RankingService",)),
    )
    chain = default_chain(
        in_flight_max=10,
        deadline_max_s=60,
        slow_call_s=60,
        audit=Audit(use_cases.audit, known),
        refusals=Refusals(use_cases.audit),
        identify=identify,
    )
    return compose(method_table(servicers), chain)


async def answers_of(
    route: Route, payloads: Sequence[bytes], **metadata: str
) -> list[bytes | RpcFailure]:
    """All that a method answers."""
    call = CallContext(deadline_s=None, metadata=metadata, peer_of=lambda: "fuzz")
    if isinstance(route, UnaryRoute):
        return [await route.handler(payloads[0], call)]

    async def requests() -> AsyncIterator[bytes]:
        for payload in payloads:
            yield payload

    return [answer async for answer in route.handler(requests(), call)]
