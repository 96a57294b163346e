"""The method table: every method that a listener answers, built from the service descriptors."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass


class Servicer(Protocol):
    """An object with one async method for each method of its service, named in snake_case."""

    @property
    def service(self) -> ServiceDescriptor:
        """The service it answers for."""


@dataclass(frozen=True, slots=True)
class Method:
    """One row of the table.

    `handler` takes (request, CallContext); requests come as an async iterator where
    `client_streaming`, and answers are yielded where `server_streaming`.
    """

    path: str
    request_type: type[Message]
    response_type: type[Message]
    client_streaming: bool
    server_streaming: bool
    handler: Callable[..., Any]

    @property
    def streaming(self) -> bool:
        """Whether either side sends more than one message."""
        return self.client_streaming or self.server_streaming


def method_table(servicers: Iterable[Servicer]) -> Mapping[str, Method]:
    """The methods of some servicers by full path, "/package.Service/Method".

    Raises TypeError when a method of a service has no handler of the right kind, and ValueError
    when two servicers answer for one service: both stop the start.
    """
    table: dict[str, Method] = {}
    for servicer in servicers:
        for descriptor in servicer.service.methods:
            method = _method(servicer, descriptor)
            if method.path in table:
                raise ValueError(f"two servicers answer {method.path}")
            table[method.path] = method
    return table


def service_names(servicers: Iterable[Servicer]) -> tuple[str, ...]:
    """The full names of the services that some servicers answer for."""
    return tuple(servicer.service.full_name for servicer in servicers)


def _method(servicer: Servicer, descriptor: MethodDescriptor) -> Method:
    path = f"/{descriptor.containing_service.full_name}/{descriptor.name}"
    handler = getattr(servicer, _snake_case(descriptor.name), None)
    if descriptor.client_streaming and not descriptor.server_streaming:
        raise TypeError(f"{path}: one answer to a stream of requests is not supported")
    fits = inspect.isasyncgenfunction if descriptor.server_streaming else _is_coroutine_function
    if handler is None or not fits(handler):
        wanted = "an async generator" if descriptor.server_streaming else "an async method"
        raise TypeError(f"{path}: {type(servicer).__name__} needs {wanted} for it")
    return Method(
        path=path,
        request_type=GetMessageClass(descriptor.input_type),
        response_type=GetMessageClass(descriptor.output_type),
        client_streaming=descriptor.client_streaming,
        server_streaming=descriptor.server_streaming,
        handler=handler,
    )


def _is_coroutine_function(handler: object) -> bool:
    return inspect.iscoroutinefunction(handler)


def _snake_case(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
