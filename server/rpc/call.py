"""What is known of a call besides its message."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""The id of the call that runs here, for log lines below the servicers."""


@dataclass(slots=True)
class CallContext:
    """One call, as its transport describes it.

    `deadline_s` is on the clock of time.monotonic, None without a deadline. `metadata` has
    lower-case keys; of a repeated key the last value stays. The chain sets `request_id`.
    """

    deadline_s: float | None
    metadata: Mapping[str, str | bytes]
    peer: str
    request_id: str = ""


def actor_of(call: CallContext) -> str:
    """Who acts, for the audit. Nobody is authenticated: it is where the call came from."""
    return call.peer
