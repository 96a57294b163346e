"""The innermost link of the chain: bytes to messages of the contract, and answers back."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any, ClassVar

from google.protobuf.message import DecodeError, Message

from core.errors import InvalidInput
from server.rpc.call import CallContext
from server.rpc.chain import StreamHandler, UnaryHandler
from server.rpc.methods import Method


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
            answer: Message = await handler(message, call)
            return answer.SerializeToString()

        return decoded

    def stream(self, method: Method, handler: StreamHandler) -> StreamHandler:
        """Parsed, a stream; a method with one request gets that one."""

        async def decoded(
            requests: AsyncIterator[bytes], call: CallContext
        ) -> AsyncGenerator[bytes, None]:
            async with aclosing(_parsed(method.request_type, requests)) as messages:
                given = messages if method.client_streaming else await _only(messages)
                async with aclosing(handler(given, call)) as answers:
                    async for answer in answers:
                        yield answer.SerializeToString()

        return decoded


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


def _malformed() -> InvalidInput:
    return InvalidInput("request", "is not a message of this method, or has text that is not UTF-8")
