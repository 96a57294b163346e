"""The links of the chain that say who calls, and keep callers to what is theirs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, ClassVar, Protocol, TypeAlias

from google.protobuf.message import Message

from server.errors import PermissionDenied
from server.identity.identity import NOBODY, Identity
from server.identity.policy import POLICY, SINGLE_USE, Boards, check_policy
from server.identity.scope import scope_of
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method

_Check: TypeAlias = Callable[[CallContext], Identity]


class Identify(Protocol):
    """Finds out who calls; server/identity/callers.py does."""

    def identify(self, call: CallContext) -> Identity:
        """Who calls. Raises Unauthenticated."""

    def use_up(self, call: CallContext, identity: Identity) -> None:
        """Before an act for which a token is good once. Raises Unauthenticated, Unavailable."""


class Identification:
    """Says who calls, and refuses whom the policy does not name. Without `identify` all callers are
    anonymous, and may do everything.
    """

    name: ClassVar = "identity"
    # Its refusals need a status, are logged and counted, and some are recorded.
    after: ClassVar = frozenset({"error map", "refusals"})

    def __init__(self, identify: Identify | None) -> None:
        self._identify = identify

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Permitted, one request."""
        check = self._check(method)
        if check is None:
            return handler

        async def permitted(request: bytes, call: CallContext) -> Any:  # noqa: ANN401
            call.identity = check(call)
            return await handler(request, call)

        return permitted

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Permitted, a stream, once: it may go on when its caller's token has expired."""
        check = self._check(method)
        if check is None:
            return handler

        async def permitted(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[Any, None]:
            call.identity = check(call)
            async with aclosing(handler(requests, call)) as answers:
                async for answer in answers:
                    yield answer

        return permitted

    def _check(self, method: Method) -> _Check | None:
        # Also where nobody is asked: a method without a row must not wait for its first user.
        check_policy([(method.path, method.request_type)])
        callers = self._identify
        if callers is None:
            return None
        roles, _, boards = POLICY[method.path]
        if roles is None:
            return _nobody
        all_boards = boards is Boards.ALL
        single_use = method.path in SINGLE_USE

        def check(call: CallContext) -> Identity:
            identity = callers.identify(call)
            if identity.roles.isdisjoint(roles) or (all_boards and identity.game is not None):
                call.identity = identity  # For the log.
                raise PermissionDenied
            if single_use:
                callers.use_up(call, identity)
            return identity

        return check


class Confinement:
    """Keeps a caller to the boards of its game, and a player to itself; server/identity/scope.py
    has the rule. Items of a batch are checked by the same, where they are decoded.
    """

    name: ClassVar = "scope"
    # It looks at messages, and at who calls.
    after: ClassVar = frozenset({"identity", "decode"})

    def __init__(self, *, asked: bool) -> None:
        self._asked = asked

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Confined, one request."""
        scope = scope_of(method.request_type)
        if not self._asked or not (scope.boards or scope.users):
            return handler
        creates = _creates(method)

        async def confined(request: Message, call: CallContext) -> Any:  # noqa: ANN401
            scope.check(call.identity, request, creates=creates)
            return await handler(request, call)

        return confined

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Confined, a stream: its one request, or each of those that come."""
        scope = scope_of(method.request_type)
        if not self._asked or not (scope.boards or scope.users):
            return handler

        def confined(requests: Any, call: CallContext) -> AsyncGenerator[Any, None]:  # noqa: ANN401
            if method.client_streaming:
                return handler(_checked(requests, call), call)
            scope.check(call.identity, requests)
            return handler(requests, call)

        async def _checked(
            requests: AsyncIterator[Message], call: CallContext
        ) -> AsyncGenerator[Message, None]:
            async for request in requests:
                scope.check(call.identity, request)
                yield request

        return confined


def _creates(method: Method) -> bool:
    return POLICY[method.path].boards is Boards.CREATED


def _nobody(_call: CallContext) -> Identity:
    return NOBODY
