"""The links of the chain that keep a caller to its share, and take what its calls cost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar

from google.protobuf.message import Message

from server.identity.policy import Kind, rule_of
from server.limits.accounts import Accounts
from server.limits.costs import cost_of
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method


class Limits:
    """Refuses a caller that has used up its tokens for that kind of method, or has its share of
    the calls in progress. Without `accounts` nobody is limited.
    """

    name: ClassVar = "limits"
    # Its refusals need a status; whose tokens they are is who calls.
    after: ClassVar = frozenset({"error map", "identity"})

    def __init__(self, accounts: Accounts | None) -> None:
        self._accounts = accounts

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Limited, one request."""
        accounts, kind = self._accounts, rule_of(method.path).kind
        if accounts is None or kind is None:
            return handler

        async def limited(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            account = call.account = accounts.of(call.identity, call.peer)
            account.take(kind)
            account.enter(kind)
            try:
                return await handler(request, call)
            finally:
                account.leave()

        return limited

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Limited, a stream. One of requests takes a place from its start to its end, and pays for
        what comes in as it comes, where that is read; one that only answers pays for its start.
        """
        accounts, kind = self._accounts, rule_of(method.path).kind
        if accounts is None or kind is None:
            return handler
        if method.client_streaming:
            return _placed(accounts, kind, handler)

        def limited(requests: AsyncIterator[bytes], call: CallContext) -> AsyncGenerator[Any, None]:
            return _paid(accounts, kind, handler, requests, call)

        return limited


class Costs:
    """Takes what a call costs beyond the one token with which it came in."""

    name: ClassVar = "costs"
    # It looks at messages.
    after: ClassVar = frozenset({"limits", "decode"})

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Paid for, one request."""
        cost, kind = cost_of(method), rule_of(method.path).kind
        if cost is None or kind is None:
            return handler

        async def paid(request: Message, call: CallContext) -> Any:  # noqa: ANN401
            if call.account is not None:
                call.account.owe(kind, cost(request) - 1)
            return await handler(request, call)

        return paid

    def stream(self, _method: Method, handler: StreamHandler) -> StreamHandler:
        """A stream as it is."""
        return handler


def _placed(accounts: Accounts, kind: Kind, handler: StreamHandler) -> StreamHandler:
    async def placed(
        requests: AsyncIterator[bytes], call: CallContext
    ) -> AsyncGenerator[Any, None]:
        account = call.account = accounts.of(call.identity, call.peer)
        account.enter(kind)
        try:
            async with aclosing(handler(requests, call)) as answers:
                async for answer in answers:
                    yield answer
        finally:
            account.leave()

    return placed


async def _paid(
    accounts: Accounts,
    kind: Kind,
    handler: StreamHandler,
    requests: AsyncIterator[bytes],
    call: CallContext,
) -> AsyncGenerator[Any, None]:
    accounts.of(call.identity, call.peer).take(kind)
    async with aclosing(handler(requests, call)) as answers:
        async for answer in answers:
            yield answer
