"""What every call passes through, outermost first, whatever transport brought it.

    request id    gives the call an id, or keeps the caller's
    trace         gives a traced call its span; only where traces are collected
    access log    one line a call, by how it ended
    measure       counts calls and takes their time
    error map     exceptions become RpcFailure; nothing above it sees one
    refusals      records who was refused what is audited
    identity      finds out who calls, and whether the policy permits it
    limits        refuses callers beyond their share
    in flight     refuses calls beyond what this worker holds
    deadline      ends the call when its time is spent
    decode        bytes to message, and the answer back to bytes
    costs         takes from a caller's share what the call asks for
    scope         keeps callers to their own boards and users
    audit         records what is to be, before it is done
    sources       counts where reads were answered
    (servicer)

A composed handler takes request bytes and gives response bytes or one RpcFailure, which is always
the last value; asyncio.CancelledError passes through and is never answered. A transport runs
each call in a task of its own.
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from server.rpc.call import CallContext
from server.rpc.methods import Method
from server.rpc.status import RpcFailure

UnaryHandler: TypeAlias = Callable[[Any, CallContext], Awaitable[Any]]
StreamHandler: TypeAlias = Callable[[AsyncIterator[Any], CallContext], AsyncGenerator[Any, None]]
Unary: TypeAlias = Callable[[bytes, CallContext], Awaitable[bytes | RpcFailure]]
Stream: TypeAlias = Callable[
    [AsyncIterator[bytes], CallContext], AsyncGenerator[bytes | RpcFailure, None]
]


class Interceptor(Protocol):
    """One link. It wraps a handler once, at start; nothing is looked up per call."""

    @property
    def name(self) -> str:
        """What other links call it."""

    @property
    def after(self) -> frozenset[str]:
        """The links that must stand before it, that is further out."""

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """The handler of a method with one request and one answer, behind this link."""

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """The handler of any other method, behind this link."""


@dataclass(frozen=True, slots=True)
class UnaryRoute:
    """A method with one request and one answer, as a transport serves it."""

    method: Method
    handler: Unary


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """Any other method, as a transport serves it; where only answers are streamed, the requests
    are a stream of one.
    """

    method: Method
    handler: Stream


Route: TypeAlias = UnaryRoute | StreamRoute


def check_order(interceptors: Sequence[Interceptor]) -> None:
    """Raises ValueError when a link stands twice, or before one that has to stand before it."""
    seen: set[str] = set()
    for interceptor in interceptors:
        if interceptor.name in seen:
            raise ValueError(f"the chain has {interceptor.name!r} twice")
        missing = interceptor.after - seen
        if missing:
            raise ValueError(f"in the chain {sorted(missing)} must stand before {interceptor.name}")
        seen.add(interceptor.name)


def compose(
    methods: Mapping[str, Method], interceptors: Sequence[Interceptor]
) -> Mapping[str, Route]:
    """Every method behind the chain, by full path. Raises ValueError as check_order does."""
    check_order(interceptors)
    return {path: _route(method, interceptors) for path, method in methods.items()}


def _route(method: Method, interceptors: Sequence[Interceptor]) -> Route:
    if not method.streaming:
        unary: UnaryHandler = method.handler
        for interceptor in reversed(interceptors):
            unary = interceptor.unary(method, unary)
        return UnaryRoute(method, unary)
    stream: StreamHandler = method.handler
    for interceptor in reversed(interceptors):
        stream = interceptor.stream(method, stream)
    return StreamRoute(method, stream)
