"""What a watch holds, and gives back: its stream, its reader, its place on the connection."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2
from standings_client import (
    AsyncClient,
    Cancelled,
    Client,
    ResourceExhausted,
    TooManyWatches,
    WatchOptions,
)
from standings_client._watch import WATCH_COUNT_MAX, OpenWatches, Question, Watch
from tests.unit.clients.faces import Either, FakeTime, Watching
from tests.unit.clients.fake_server import Fake, Tap, start

pytestmark = pytest.mark.timeout(60)

# Left open at the end: by a name, by a cycle, and in a list.
LEFT_OPEN = """
import sys
from standings_client import Client

client = Client(sys.argv[1])
watch = client.watch_entries("board", top_count=3)
next(watch)
cycle = {"watch": client.watch_entries("board", top_count=3)}
cycle["self"] = cycle
next(cycle["watch"])
others = [client.watch_entries("board", top_count=3) for _ in range(2)]
for other in others:
    next(other)
del cycle
print("the end", flush=True)
"""


def snapshot() -> Any:
    """A message with one entry."""
    one = types_pb2.Entry(user_id=1, rank=1)
    return pb.WatchEntriesResponse(event=pb.WATCH_EVENT_SNAPSHOT, entries=[one])


def no_reader_is_left() -> bool:
    """Whether the threads that read streams end."""
    readers = [thread for thread in threading.enumerate() if thread.name == "standings-watch"]
    for reader in readers:
        reader.join(10)
    return not any(reader.is_alive() for reader in readers)


async def over(tap: Tap) -> bool:
    """Whether the server's side of the stream ends."""
    return await asyncio.to_thread(tap.ended.wait, 10)


@pytest.fixture
def narrow(fake: Fake) -> Iterator[str]:
    """Where a server listens that allows one stream a connection."""
    server, address = start(fake, stream_count_max=1)
    yield address
    server.stop(grace=None).wait()


async def test_closing_ends_the_stream_at_once(client: Either, fake: Fake) -> None:
    """No call, thread or task is left."""
    tap = Tap(snapshot())
    fake.tell_watch(tap)
    watch = Watching(client, "board", top_count=3)
    await watch.next()

    await watch.close()

    assert no_reader_is_left()
    assert "standings-watch" not in {task.get_name() for task in asyncio.all_tasks()}
    assert await over(tap)
    assert await watch.next() is None


def test_breaking_out_of_the_loop_ends_the_stream(sync_client: Client, fake: Fake) -> None:
    """Nobody holds the iterator any more."""
    tap = Tap(snapshot())
    fake.tell_watch(tap)

    for _ in sync_client.watch_entries("board", top_count=3):
        break

    assert tap.ended.wait(10)
    assert no_reader_is_left()


async def test_breaking_out_of_the_loop_ends_the_stream_too(
    async_client: AsyncClient, fake: Fake
) -> None:
    """The event loop closes an iterator that nobody holds."""
    tap = Tap(snapshot())
    fake.tell_watch(tap)

    async for _ in async_client.watch_entries("board", top_count=3):
        break

    assert await over(tap)
    assert "standings-watch" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_cancelling_the_waiting_task_ends_the_stream(
    async_client: AsyncClient, fake: Fake
) -> None:
    """A task that waits for an update may be cancelled at any time."""
    tap = Tap(snapshot())
    fake.tell_watch(tap)
    watch = async_client.watch_entries("board", top_count=3)
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)

    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await over(tap)
    assert "standings-watch" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_watch_that_nobody_asks_opens_nothing(client: Either, fake: Fake) -> None:
    """The stream begins with the first update that is asked for."""
    await Watching(client, "board", top_count=3).close()

    assert fake.asked["WatchEntries"] == []


# Less than a stream may be silent: it has to be the close that ends the watch.
@pytest.mark.timeout(40)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_a_client_closed_under_a_watch_ends_it(kind: Any, address: str, fake: Fake) -> None:
    """Polls would find nobody either."""
    client = Either(kind(address))
    async with Watching(client, "board", top_count=3) as watch:
        await watch.next()
        await client.call("close")
        with pytest.raises(Cancelled):
            await watch.next()


@pytest.mark.parametrize("attempt", range(6))
def test_a_watch_that_is_left_open_does_not_hold_up_the_exit(attempt: int, address: str) -> None:
    """Nobody waits for a thread that will never run again; it took a few runs to meet one."""
    command = [sys.executable, "-W", "error", "-c", LEFT_OPEN, address]

    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "the end\n", "")


def test_a_reader_that_cannot_be_started_is_not_waited_for(
    sync_client: Client, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the interpreter says is raised, and the stream is ended."""
    tap, start_thread = Tap(), threading.Thread.start

    def refuse_reader(thread: threading.Thread) -> None:
        if thread.name == "standings-watch":
            raise RuntimeError("can't start new thread")
        start_thread(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse_reader)
    fake.tell_watch(tap)

    with pytest.raises(RuntimeError, match="can't start new thread"):
        next(sync_client.watch_entries("board", top_count=3))

    assert not tap.opened.is_set() or tap.ended.wait(10)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
async def test_watches_leave_the_connection_to_the_others(
    kind: Any, narrow: str, fake: Fake
) -> None:
    """Where a connection is full, a further watch polls, and other calls notice nothing."""
    client = Either(kind(narrow))
    options = WatchOptions(poll_interval_s=0.05)
    async with Watching(client, "board", top_count=3) as first:
        streaming = [(await first.next()).streaming]
        async with Watching(client, "board", top_count=3, options=options) as second:
            streaming.append((await second.next()).streaming)
        answer = await client.call("get_entry", "board", 7)
    await client.call("close")

    assert streaming == [True, False]
    assert answer.entry.rank == 1


async def test_one_watch_too_many_is_refused(
    client: Either, fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, with the number; one that is over makes room."""
    monkeypatch.setattr("standings_client._watch.WATCH_COUNT_MAX", 2)
    watches = [Watching(client, "board", top_count=3) for _ in range(4)]
    for watch in watches[:2]:
        await watch.next()

    with pytest.raises(ResourceExhausted, match="at most 2 watches") as caught:
        await watches[2].next()
    await watches[0].close()
    update = await watches[3].next()
    for watch in watches:
        await watch.close()

    assert (type(caught.value), caught.value.reason) == (TooManyWatches, "TOO_MANY_WATCHES")
    assert update.streaming


def test_a_client_has_two_hundred_watches() -> None:
    """Each counts once, until it is over."""
    open_watches, environment = OpenWatches(), FakeTime().environment()
    question, options = Question("board", top_count=3), WatchOptions()
    watches = [
        Watch(question, options, environment, heartbeats=False) for _ in range(WATCH_COUNT_MAX + 1)
    ]
    for watch in watches[:-1]:
        open_watches.add(watch)

    with pytest.raises(TooManyWatches, match="at most 200"):
        open_watches.add(watches[-1])
    open_watches.discard(watches[0])
    open_watches.add(watches[-1])
