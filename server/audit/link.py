"""The link of the chain that records what a call is about to do, and what became of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, ClassVar

from core.audit_lines import Action
from core.audit_ports import AuditTrail
from core.errors import AuditUnavailable, StandingsError
from server import metrics
from server.audit.describing import Known
from server.audit.table import AUDIT
from server.rpc.call import CallContext, actor_of
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method
from server.rpc.status import rule_of

_log = logging.getLogger("server.audit")

_CANCELLED = "CANCELLED"
"""Whoever called went away, or its time was over: it may have been done."""


class Audit:
    """Lets an audited call go on only once it is recorded, on the disk."""

    name: ClassVar = "audit"
    # What it records is in the message, and is its caller's to ask for.
    after: ClassVar = frozenset({"decode", "scope"})

    def __init__(self, trail: AuditTrail, known: Known) -> None:
        self._trail = trail
        self._known = known
        self._endings: set[asyncio.Task[None]] = set()

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Recorded, one request. Raises ValueError for a method without a row in the table."""
        row = _row(method)
        if row is None:
            return handler
        name = method.path.removeprefix("/")

        async def audited(message: Any, call: CallContext) -> Any:  # noqa: ANN401
            told = await row.describe(message, call, self._known)
            sequence = await self._begun(
                Action(
                    method=name,
                    target=told.target,
                    actor=actor_of(call),
                    peer=call.peer,
                    reason=told.reason,
                    request_id=call.request_id,
                    old=told.old,
                    new=told.new,
                )
            )
            status, result = _CANCELLED, {}
            try:
                answer = await handler(message, call)
                status, result = "OK", dict(row.result(answer))
            except Exception as error:
                status = rule_of(error).code.name
                raise
            finally:
                await asyncio.shield(self._later(sequence, status, result))
            return answer

        return audited

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Not recorded. Raises ValueError for a stream that is to be: it has no one moment before
        its effect.
        """
        if _row(method) is not None:
            raise ValueError(f"{method.path} is a stream and cannot be audited")
        return handler

    async def _begun(self, action: Action) -> int:
        beginning = asyncio.ensure_future(self._trail.begin(action))
        try:
            sequence = await asyncio.shield(beginning)
        except asyncio.CancelledError:
            beginning.add_done_callback(self._never_done)
            raise
        except AuditUnavailable:
            metrics.AUDIT_REFUSED.labels(action.method).inc()
            raise
        # In the common log, too, for those who look there first; what it says is in the audit.
        _log.warning(
            "an action was recorded",
            extra={
                "audit_sequence": sequence,
                "audit_method": action.method,
                "target": action.target,
                "actor": action.actor,
                "request_id": action.request_id,
            },
        )
        return sequence

    def _never_done(self, beginning: asyncio.Future[int]) -> None:
        """Nothing was done of what was recorded, because its caller went away meanwhile."""
        if not beginning.cancelled() and beginning.exception() is None:
            self._later(beginning.result(), _CANCELLED, {"done": False})

    def _later(self, sequence: int, status: str, result: Mapping[str, Any]) -> asyncio.Task[None]:
        ending = asyncio.create_task(self._end(sequence, status, result))
        self._endings.add(ending)
        ending.add_done_callback(self._endings.discard)
        return ending

    async def _end(self, sequence: int, status: str, result: Mapping[str, Any]) -> None:
        try:
            await self._trail.end(sequence, status, result)
        except StandingsError as error:
            # It is done; the audit says that nobody knows what became of it.
            _log.error(
                "an outcome could not be recorded",
                extra={"audit_sequence": sequence, "status": status, "reason": error.reason},
            )


def _row(method: Method) -> Any:  # noqa: ANN401
    if method.path not in AUDIT:
        raise ValueError(f"server/audit/table.py does not say whether {method.path} is audited")
    return AUDIT[method.path]
