"""What nodes are asked for traced calls, as spans: one for each node and round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from core.tracing import Attributes, span_here
from sharding.library import LIBRARY, Command
from sharding.replies import Answer, NodeLost
from sharding.slot_map import Address

_PREFIX: Final = LIBRARY.prefix.decode()


class NodeObserver(Protocol):
    """Who wants to know what nodes were asked. Nothing here may wait or raise."""

    def exchanged(
        self,
        calls: Mapping[Address, Sequence[Command]],
        answers: Mapping[Address, Answer | NodeLost],
        began_s: float,
    ) -> None:
        """A round trip to some nodes, begun by the loop's clock then, has ended now."""


class NodeSpans:
    """A NodeObserver that makes spans. Cost: a look, where nothing is traced."""

    def exchanged(
        self,
        calls: Mapping[Address, Sequence[Command]],
        answers: Mapping[Address, Answer | NodeLost],
        began_s: float,
    ) -> None:
        """See NodeObserver.exchanged."""
        span = span_here()
        if span is None:
            return
        ago_s = asyncio.get_running_loop().time() - began_s
        for address, answer in answers.items():
            name, attributes = _of(address, calls[address])
            call = span.child(name, attributes, ago_s=ago_s, remote=True)
            if isinstance(answer, NodeLost):
                call.end(error=type(answer).__name__)
            else:
                call.end(took_s=answer.took_s)


def _of(address: Address, commands: Sequence[Command]) -> tuple[str, Attributes]:
    """The name of a span, and what it says. Keys and arguments are nobody's business."""
    # Before it there may be ASKING, which is no call of its own.
    command = commands[-1]
    word = _text(command[0])
    # No more than tells one call from another: encoding them is most of what a span costs.
    attributes: Attributes = {
        "db.system.name": "redis",
        "server.address": address.host,
        "server.port": address.port,
    }
    if not word.startswith("FCALL"):
        return word, attributes
    return f"{word} {_text(command[1]).removeprefix(_PREFIX)}", attributes


def _text(part: bytes | int) -> str:
    return part.decode(errors="replace") if isinstance(part, bytes) else str(part)
