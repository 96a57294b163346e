"""The links of the chain, outermost first; rpc/chain.py puts them together."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from itertools import count
from typing import Any, ClassVar, Final

from core.errors import DeadlineSpent
from core.tracing import Tracer
from resilience.deadline import DEADLINE_S
from server.errors import TooManyCalls
from server.limits.accounts import Accounts
from server.limits.links import Costs, Limits
from server.rpc.access_log import AccessLog
from server.rpc.call import REQUEST_ID, CallContext
from server.rpc.chain import Interceptor, StreamHandler, UnaryHandler
from server.rpc.decode import Decode
from server.rpc.identification import Confinement, Identification, Identify
from server.rpc.measuring import Measure, Sources
from server.rpc.methods import Method
from server.rpc.overdue import Overdue
from server.rpc.status import failure_of
from server.rpc.tracing import Trace

REQUEST_ID_KEY: Final = "x-request-id"
_CALLERS_ID: Final = re.compile(r"[A-Za-z0-9._-]{8,64}")
"""A caller's own id is kept only if it cannot forge a log line."""
_PROCESS: Final = secrets.token_hex(4)
_CALLS: Final = count()
"""Nobody guesses at ids of calls, they only tell them apart: a number behind a process's mark."""


def default_chain(  # noqa: PLR0913 - one for each link
    *,
    in_flight_max: int,
    deadline_max_s: float,
    slow_call_s: float,
    audit: Interceptor,
    refusals: Interceptor,
    identify: Identify | None = None,
    tracer: Tracer | None = None,
    accounts: Accounts | None = None,
) -> tuple[Interceptor, ...]:
    """The chain of a listener, outermost first; the calls of all its methods count together.
    Without `identify` nobody is asked who calls, without `accounts` nobody is limited, without a
    `tracer` nothing is traced.
    """
    return (
        RequestId(),
        *(() if tracer is None else (Trace(tracer),)),
        AccessLine(AccessLog(logging.getLogger("server.access"), slow_call_s=slow_call_s)),
        Measure(),
        ErrorMap(),
        refusals,
        Identification(identify),
        Limits(accounts),
        InFlight(in_flight_max),
        Deadline(deadline_max_s),
        Decode(),
        Costs(),
        Confinement(asked=identify is not None),
        audit,
        Sources(),
    )


class RequestId:
    """Gives every call an id; a well-formed x-request-id of the caller is kept."""

    name: ClassVar = "request id"
    after: ClassVar[frozenset[str]] = frozenset()

    def unary(self, _method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Identified, one request."""

        async def identified(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            call.request_id = _id_of(call.metadata)
            REQUEST_ID.set(call.request_id)
            return await handler(request, call)

        return identified

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """Identified, a stream."""

        def identified(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            call.request_id = _id_of(call.metadata)
            REQUEST_ID.set(call.request_id)
            return handler(requests, call)

        return identified


class AccessLine:
    """Hands the end of every call to the access log."""

    name: ClassVar = "access log"
    after: ClassVar = frozenset({"request id"})

    def __init__(self, log: AccessLog) -> None:
        self._log = log

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Logged, one request."""
        path, log = method.path, self._log

        async def logged(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            start_s = time.monotonic()
            try:
                answer = await handler(request, call)
            except asyncio.CancelledError:
                log.cancelled(path, call, time.monotonic() - start_s)
                raise
            log.unary(path, call, answer, time.monotonic() - start_s)
            return answer

        return logged

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Logged, a stream."""
        path, log = method.path, self._log

        async def logged(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            start_s = time.monotonic()
            answer = None
            try:
                async with aclosing(handler(requests, call)) as answers:
                    async for answer in answers:
                        yield answer
            except (asyncio.CancelledError, GeneratorExit):
                log.cancelled(path, call, time.monotonic() - start_s)
                raise
            log.stream(path, call, answer, time.monotonic() - start_s)

        return logged


class ErrorMap:
    """Turns every exception into the RpcFailure that callers are told."""

    name: ClassVar = "error map"
    # Log and measures say how a call ended, so they have to see what this link makes of exceptions.
    after: ClassVar = frozenset({"request id", "access log", "measure"})

    def unary(self, _method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Answered in any case, one request."""

        async def mapped(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            try:
                return await handler(request, call)
            except Exception as error:  # noqa: BLE001 - whatever it is, callers get a status
                return failure_of(error, call.request_id)

        return mapped

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """Ended in any case, a stream."""

        async def mapped(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            async with aclosing(handler(requests, call)) as answers:
                try:
                    async for answer in answers:
                        yield answer
                except Exception as error:  # noqa: BLE001 - as above
                    yield failure_of(error, call.request_id)

        return mapped


class InFlight:
    """Refuses calls beyond what the worker holds. Health and reflection always answer: a worker
    that is busy is not a dead one.
    """

    name: ClassVar = "in flight"
    # Who may not call must not take anybody's room.
    after: ClassVar = frozenset({"error map", "identity"})

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._count = 0

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Counted, one request."""
        if not _is_ours(method):
            return handler

        async def admitted(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            self._enter()
            try:
                return await handler(request, call)
            finally:
                self._count -= 1

        return admitted

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Counted as one from its start to its end, a stream of requests. One that only answers
        is not: it may stay for hours, and its use case knows how many there may be.
        """
        if not _is_ours(method) or not method.client_streaming:
            return handler

        async def admitted(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            self._enter()
            try:
                async with aclosing(handler(requests, call)) as answers:
                    async for answer in answers:
                        yield answer
            finally:
                self._count -= 1

        return admitted

    def _enter(self) -> None:
        if self._count >= self._count_max:
            raise TooManyCalls
        self._count += 1


class Deadline:
    """Ends a call when its time is spent. A unary call has at most `unary_max_s`, asked or not."""

    name: ClassVar = "deadline"
    after: ClassVar = frozenset({"error map"})

    def __init__(self, unary_max_s: float) -> None:
        self._unary_max_s = unary_max_s
        self._overdue = Overdue()

    def unary(self, _method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Bounded, one request."""
        unary_max_s, overdue = self._unary_max_s, self._overdue

        async def bounded(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            now_s = time.monotonic()
            end_s = now_s + unary_max_s
            if call.deadline_s is not None:
                end_s = min(end_s, call.deadline_s)
                if end_s <= now_s:
                    raise DeadlineSpent
            # No adapter waits for longer than the caller does.
            DEADLINE_S.set(end_s)
            limit = overdue.enter(end_s)
            try:
                return await handler(request, call)
            except asyncio.CancelledError as error:
                if limit.caused():
                    raise DeadlineSpent from error
                raise
            finally:
                overdue.leave(limit)

        return bounded

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """Bounded, a stream; one without a deadline is not."""

        def bounded(requests: AsyncIterator[bytes], call: CallContext) -> AsyncGenerator[Any, None]:
            DEADLINE_S.set(call.deadline_s)
            answers = handler(requests, call)
            return answers if call.deadline_s is None else _until(call.deadline_s, answers)

        return bounded


async def _until(
    deadline_s: float, answers: AsyncGenerator[Any, None]
) -> AsyncGenerator[Any, None]:
    async with aclosing(answers):
        while True:
            # Only the wait for an answer is bounded: a timeout that is open across a yield would
            # cancel whatever the task does then.
            try:
                async with asyncio.timeout(deadline_s - time.monotonic()) as bound:
                    answer = await anext(answers)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                if bound.expired():
                    raise DeadlineSpent from error
                raise
            yield answer


def _is_ours(method: Method) -> bool:
    return method.path.startswith("/standings.")


def _id_of(metadata: Mapping[str, str | bytes]) -> str:
    given = metadata.get(REQUEST_ID_KEY)
    if isinstance(given, str) and _CALLERS_ID.fullmatch(given):
        return given
    return f"{_PROCESS}{next(_CALLS):08x}"
