"""One line a call: DEBUG when all is well, at the failure's own level when it is not."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from typing import Final

from server.errors import Unauthenticated
from server.identity.identity import ANONYMOUS
from server.rpc.call import CallContext
from server.rpc.status import RpcFailure

_SAMPLE_S: Final = 1.0
"""Overload and outages fail thousands of calls alike: of one reason, a line in this time."""


def _caller(call: CallContext, error: Exception) -> dict[str, object]:
    """Who called, and why that could not be told."""
    if isinstance(error, Unauthenticated):
        return {"why": error.why}
    return {} if call.identity is ANONYMOUS else {"caller": call.identity.name}


@dataclass(slots=True)
class _Sample:
    next_s: float = 0.0
    suppressed: int = 0


@dataclass(slots=True)
class AccessLog:
    """Writes how calls ended. Failures that are warnings are sampled by method and reason; a bug
    is written each time, with its traceback.
    """

    logger: logging.Logger
    slow_call_s: float
    _samples: dict[tuple[str, str], _Sample] = field(default_factory=dict)

    def unary(self, path: str, call: CallContext, answer: object, duration_s: float) -> None:
        """Writes the end of a unary call."""
        if isinstance(answer, RpcFailure):
            self._failed(path, call, answer, duration_s)
        elif duration_s >= self.slow_call_s:
            self._write(logging.WARNING, "slow call", path, call, duration_s)
        elif self.logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "call", path, call, duration_s)

    def stream(self, path: str, call: CallContext, last: object, duration_s: float) -> None:
        """Writes the end of a stream, whose last value may be its failure."""
        if isinstance(last, RpcFailure):
            self._failed(path, call, last, duration_s)
        elif self.logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "stream", path, call, duration_s)

    def cancelled(self, path: str, call: CallContext, duration_s: float) -> None:
        """Writes that a call ended because nobody waits for it any more."""
        if self.logger.isEnabledFor(logging.DEBUG):
            self._write(logging.DEBUG, "cancelled call", path, call, duration_s)

    def _failed(self, path: str, call: CallContext, failure: RpcFailure, duration_s: float) -> None:
        if not self.logger.isEnabledFor(failure.level):
            return
        suppressed = 0
        if failure.level == logging.WARNING:
            sample = self._samples.setdefault((path, type(failure.error).__name__), _Sample())
            now_s = time.monotonic()
            if now_s < sample.next_s:
                sample.suppressed += 1
                return
            suppressed, sample.suppressed = sample.suppressed, 0
            sample.next_s = now_s + _SAMPLE_S
        self._write(
            failure.level,
            "failed call",
            path,
            call,
            duration_s,
            code=failure.code.name,
            reason=type(failure.error).__name__,
            **_caller(call, failure.error),
            suppressed=suppressed,
            error=failure.error if failure.level >= logging.ERROR else None,
        )

    def _write(
        self,
        level: int,
        text: str,
        path: str,
        call: CallContext,
        duration_s: float,
        *,
        error: Exception | None = None,
        **fields: object,
    ) -> None:
        self.logger.log(
            level,
            text,
            exc_info=error,
            extra={
                "method": path,
                "request_id": call.request_id,
                "peer": call.peer,
                "duration_ms": round(duration_s * 1000, 3),
                **fields,
            },
        )
