"""The innermost link of the chain: bytes to messages of the contract, and answers back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar, Final, Protocol

from google.protobuf.message import DecodeError, Message

from core.errors import InvalidInput
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method

_SHARED_MAX: Final = 32
"""Answers whose bytes are kept: as many as server/rpc/codec/watch.py gives to more than one."""


class Serializable(Protocol):
    """A message, or what has some of its bytes already."""

    def SerializeToString(self) -> bytes:  # noqa: N802 - as every message has it
        """Its bytes."""


class Decode:
    """Bytes to message, and the answer back to bytes."""

    name: ClassVar = "decode"
    # Parsing costs time that the deadline has to cover, and its failures need a status.
    after: ClassVar = frozenset({"error map", "deadline"})

    def unary(self, method: Method, handler: UnaryHandler) -> UnaryHandler:
        """Parsed, one request."""
        parse = method.request_type.FromString

        async def decoded(request: bytes, call: CallContext) -> bytes:
            try:
                message = parse(request)
            except DecodeError as error:
                raise _malformed() from error
            answer: Serializable = await handler(message, call)
            return answer.SerializeToString()

        return decoded

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Parsed, a stream; a method with one request gets that one. What such a method yields to
        many callers at once is serialized once; it must not be changed afterwards.
        """
        encode = _bytes_of if method.client_streaming else _Shared()

        async def decoded(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[bytes, None]:
            async with aclosing(_parsed(method.request_type, requests)) as messages:
                given = messages if method.client_streaming else await _only(messages)
                async with aclosing(handler(given, call)) as answers:
                    async for answer in answers:
                        yield encode(answer)

        return decoded


class _Shared:
    """The bytes of messages; those of the last 32 are kept, so that one object that goes to many
    streams is serialized for the first of them only.
    """

    def __init__(self) -> None:
        # By id, which is the message's own for as long as it is kept beside its bytes.
        self._kept: OrderedDict[int, tuple[Message, bytes]] = OrderedDict()

    def __call__(self, message: Message) -> bytes:
        kept = self._kept.get(id(message))
        if kept is None:
            kept = self._kept[id(message)] = (message, _bytes_of(message))
            if len(self._kept) > _SHARED_MAX:
                self._kept.popitem(last=False)
        return kept[1]


async def _parsed(
    type_: type[Message], requests: AsyncIterator[bytes]
) -> AsyncGenerator[Message, None]:
    async for request in requests:
        try:
            message = type_.FromString(request)
        except DecodeError as error:
            raise _malformed() from error
        yield message


async def _only(messages: AsyncIterator[Message]) -> Any:  # noqa: ANN401
    async for message in messages:
        return message
    raise InvalidInput("request", "is missing")


def _bytes_of(message: Message) -> bytes:
    return message.SerializeToString()


def _malformed() -> InvalidInput:
    return InvalidInput("request", "is not a message of this method, or has text that is not UTF-8")
