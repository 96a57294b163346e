"""The link of the chain that records who tried what is audited without being allowed to."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from core.audit_lines import Action
from core.audit_ports import AuditTrail
from core.errors import AuditUnavailable
from server.audit.table import AUDIT
from server.errors import PermissionDenied
from server.rpc.call import CallContext, actor_of
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method

_log = logging.getLogger("server.audit")

_SAME_S: Final = 3600.0
"""Of one caller and one method, a refusal is recorded in this time; the next one has the number."""
_BURST: Final = 20
_REFILL_S: Final = 60.0
"""Of all together, so many at once and one in this time: some MB a day, whatever callers do."""
_KEPT_MAX: Final = 1000
_STATUS: Final = "PERMISSION_DENIED"


class Refusals:
    """Records refusals, but not so many that they would fill the disk. The caller is refused
    whether that can be recorded or not. `clock_s` is monotonic.
    """

    name: ClassVar = "refusals"
    # What stands further in refuses; this sees it before it becomes an answer.
    after: ClassVar = frozenset({"error map"})

    def __init__(self, trail: AuditTrail, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._trail = trail
        self._budget = _Budget(clock_s)
        self._recordings: set[asyncio.Task[None]] = set()

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Its refusals are recorded, if it is audited."""
        if AUDIT.get(method.path) is None:
            return handler
        name = method.path.removeprefix("/")

        async def watched(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            try:
                return await handler(request, call)
            except PermissionDenied:
                before = self._budget.take(_caller(call), name)
                if before is not None:
                    await asyncio.shield(self._recorded(name, call, before))
                raise

        return watched

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """None is audited."""
        return handler

    def _recorded(self, method: str, call: CallContext, before: int) -> asyncio.Task[None]:
        # A task of its own: a caller that goes away takes no line with it.
        recording = asyncio.create_task(self._record(method, call, before))
        self._recordings.add(recording)
        recording.add_done_callback(self._recordings.discard)
        return recording

    async def _record(self, method: str, call: CallContext, before: int) -> None:
        action = Action(
            method=method,
            # What it was about is in a message that nobody has read.
            target="",
            actor=actor_of(call),
            peer=call.peer,
            request_id=call.request_id,
        )
        result = {"done": False, "unrecorded_before": before}
        try:
            await self._trail.end(await self._trail.begin(action), _STATUS, result)
        except AuditUnavailable as error:
            _log.error(
                "a refusal could not be recorded",
                extra={"audit_method": method, "actor": action.actor, "reason": error.reason},
            )


def _caller(call: CallContext) -> str:
    """Whose refusals count together: players are many, so all of a game are one."""
    identity = call.identity
    return identity.name if identity.user_id is None else f"players of {identity.game}"


@dataclass(slots=True)
class _Kept:
    next_s: float = 0.0
    unrecorded: int = 0


class _Budget:
    """How many lines there may be."""

    def __init__(self, clock_s: Callable[[], float]) -> None:
        self._clock_s = clock_s
        self._left = float(_BURST)
        self._filled_s = clock_s()
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def take(self, caller: str, method: str) -> int | None:
        """A line's place, if there is one: how many before it of its kind had none."""
        now_s = self._clock_s()
        filled = self._left + (now_s - self._filled_s) / _REFILL_S
        self._left, self._filled_s = min(float(_BURST), filled), now_s
        kept = self._kept.setdefault((caller, method), _Kept(now_s))
        if len(self._kept) > _KEPT_MAX:
            self._kept.popitem(last=False)
        if now_s < kept.next_s or self._left < 1:
            kept.unrecorded += 1
            return None
        self._left -= 1
        before, kept.unrecorded = kept.unrecorded, 0
        kept.next_s = now_s + _SAME_S
        return before
