"""What is known of a call besides its message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

from core.tracing import Span
from server.identity.identity import ANONYMOUS, Identity
from server.limits.accounts import Account

REQUEST_ID: Final[ContextVar[str]] = ContextVar("request_id", default="")
"""The id of the call that runs here, for log lines below the servicers."""


@dataclass(slots=True)
class CallContext:
    """One call, as its transport describes it.

    `deadline_s` is on the clock of time.monotonic, None without a deadline. `metadata` has
    lower-case keys; of a repeated key the last value stays. `peer_of` tells where the caller is:
    few calls ask. `evidence` is what the transport itself knows of the caller: the URIs of a
    certificate that it has verified, none without one. The chain sets `request_id`, `span` where
    the call is traced and, where callers are asked who they are, `identity`; `account` where they
    are limited.
    """

    deadline_s: float | None
    metadata: Mapping[str, str | bytes]
    peer_of: Callable[[], str]
    request_id: str = ""
    evidence: tuple[str, ...] = ()
    identity: Identity = ANONYMOUS
    span: Span | None = None
    account: Account | None = None

    @property
    def peer(self) -> str:
        """Where the caller is, as the transport writes it."""
        return self.peer_of()


def actor_of(call: CallContext) -> str:
    """Who acts, for the audit: by name, or from where if nobody was asked."""
    return call.peer if call.identity is ANONYMOUS else call.identity.name
