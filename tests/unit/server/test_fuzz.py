"""Random bytes to every method."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DataObject

from resilience.machine import MachineFile
from server.audit.describing import Known
from server.audit.link import Audit
from server.drain import Drain
from server.health import Health, HealthServicer
from server.reflection import ReflectionServicer
from server.rpc.admin_servicer import AdminServicer
from server.rpc.boards_servicer import BoardsServicer
from server.rpc.call import CallContext
from server.rpc.chain import Route, UnaryRoute, compose
from server.rpc.interceptors import default_chain
from server.rpc.methods import method_table
from server.rpc.moderation_servicer import ModerationServicer
from server.rpc.ranking_servicer import RankingServicer
from server.rpc.status import RpcFailure
from tests.unit.server.fakes import BREAKERS, Fakes, submission

_FAKES = Fakes()
_STATE = tempfile.TemporaryDirectory(prefix="standings-test-")
atexit.register(_STATE.cleanup)


def _routes() -> dict[str, Route]:
    # Followers end at once.
    health = Health(())
    health.drain()
    drain = Drain()
    drain.start()
    use_cases = _FAKES.use_cases(MachineFile(Path(_STATE.name), BREAKERS))
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
    known = Known(use_cases.levers, use_cases.manage_boards, use_cases.index_operations)
    chain = default_chain(
        in_flight_max=10, deadline_max_s=60, slow_call_s=60, audit=Audit(use_cases.audit, known)
    )
    return dict(compose(method_table(servicers), chain))


ROUTES = _routes()
_SEED = submission(
    submission_id="01890a5d-ac96-774b-bcce-b302099a8057", metadata={"a": [1, {"b": "c"}]}
).SerializeToString()
_MUTATED = st.tuples(st.integers(0, len(_SEED)), st.binary(max_size=8), st.integers(0, 8)).map(
    lambda cut: _SEED[: cut[0]] + cut[1] + _SEED[cut[0] + cut[2] :]
)
# A message inside field 1 is what most requests begin with.
_WRAPPED = (st.binary(max_size=100) | _MUTATED).map(
    lambda inner: b"\x0a" + bytes([len(inner)]) + inner if len(inner) < 128 else inner
)
_TEXTS = st.tuples(st.integers(1, 9), st.text(max_size=20).map(str.encode)).map(
    lambda part: bytes([part[0] << 3 | 2, len(part[1])]) + part[1]
)
PAYLOADS = (
    st.binary(max_size=200) | _MUTATED | _WRAPPED | st.lists(_TEXTS, max_size=4).map(b"".join)
)


async def answers_of(route: Route, payloads: list[bytes]) -> list[bytes | RpcFailure]:
    """All that a method answers."""
    call = CallContext(deadline_s=None, metadata={}, peer="fuzz")
    if isinstance(route, UnaryRoute):
        return [await route.handler(payloads[0], call)]

    async def requests() -> AsyncIterator[bytes]:
        for payload in payloads:
            yield payload

    return [answer async for answer in route.handler(requests(), call)]


@pytest.mark.parametrize("path", ROUTES)
@given(data=st.data())
async def test_random_bytes_are_no_bug(path: str, data: DataObject) -> None:
    """Whatever comes, a caller never sees INTERNAL or UNKNOWN, and answers parse."""
    payloads = data.draw(st.lists(PAYLOADS, min_size=1, max_size=3))
    route = ROUTES[path]
    for answer in await answers_of(route, payloads):
        if isinstance(answer, RpcFailure):
            assert answer.code not in {StatusCode.INTERNAL, StatusCode.UNKNOWN}, answer.error
        else:
            route.method.response_type.FromString(answer)
