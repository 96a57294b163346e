"""Bytes to every method: whatever comes is answered, and what is refused touches nothing."""

from __future__ import annotations

import atexit
import tempfile
from pathlib import Path
from random import Random

import pytest
from grpc import StatusCode
from hypothesis import given
from hypothesis import strategies as st

from resilience.machine import MachineFile
from server.rpc.status import RpcFailure
from tests.fuzz.choices import BYTES, Choices, budget, mutated
from tests.fuzz.messages import filled
from tests.fuzz.routes import answers_of, routes_of
from tests.unit.server.fakes import BREAKERS, Fakes

_STATE = tempfile.TemporaryDirectory(prefix="standings-test-")
atexit.register(_STATE.cleanup)
FAKES = Fakes()
ROUTES = routes_of(FAKES.use_cases(MachineFile(Path(_STATE.name), BREAKERS)))
ANSWERS = {
    StatusCode.INVALID_ARGUMENT,
    StatusCode.NOT_FOUND,
    StatusCode.FAILED_PRECONDITION,
    # Who follows something in a worker that is going away.
    StatusCode.UNAVAILABLE,
}


async def check(path: str, payloads: list[bytes]) -> None:
    """Sends them and looks at what comes back."""
    FAKES.reset()
    FAKES.audit.written.clear()
    route = ROUTES[path]
    answers = await answers_of(route, payloads)
    assert answers or route.method.client_streaming
    for answer in answers:
        if isinstance(answer, RpcFailure):
            assert answer.code in ANSWERS, answer.error
            if answer.code is StatusCode.INVALID_ARGUMENT and len(payloads) == 1:
                assert (FAKES.calls, FAKES.audit.written) == ([], []), answer.message
        else:
            route.method.response_type.FromString(answer)


@pytest.mark.parametrize("path", ROUTES)
@budget(200)
@given(data=BYTES)
async def test_messages_that_are_nearly_right(path: str, data: bytes) -> None:
    """Of the method's own type, some of them damaged on the way."""
    choices = Choices(data)
    message = filled(ROUTES[path].method.request_type(), choices)
    await check(path, [mutated(message.SerializeToString(), choices)])


@pytest.mark.parametrize("path", ROUTES)
@budget(60)
@given(payloads=st.lists(st.binary(max_size=200), min_size=1, max_size=3))
async def test_bytes_that_are_nothing(path: str, payloads: list[bytes]) -> None:
    """As they come."""
    await check(path, payloads)


@pytest.mark.parametrize("path", ROUTES)
@budget(20)
@given(data=BYTES, others=st.sampled_from(sorted(ROUTES)))
async def test_messages_of_another_method(path: str, data: bytes, others: str) -> None:
    """Well formed, and meant for somebody else."""
    message = filled(ROUTES[others].method.request_type(), Choices(data))
    await check(path, [message.SerializeToString()])


async def test_what_is_made_is_mostly_right() -> None:
    """Of the messages that are made, enough are taken: else the rest would prove nothing."""
    taken = dict.fromkeys(ROUTES, 0)
    for path, route in ROUTES.items():
        for number in range(60):
            data = Random(number).randbytes(300)
            message = filled(route.method.request_type(), Choices(data))
            answers = await answers_of(route, [message.SerializeToString()])
            taken[path] += not isinstance(answers[0], RpcFailure)

    ours = {path: count for path, count in taken.items() if path.startswith("/standings.")}
    untaken = {path.rpartition("/")[2] for path, count in ours.items() if not count}
    assert untaken <= {"WatchBreakers"}, taken
