"""`standings breakers` and `standings shards`, against a running server."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shlex
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.fixtures.processes import is_alive
from tests.fixtures.server import RunningServer


async def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    """A command from a shell without a terminal: exit code, output, complaints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli", *arguments),
        env={**os.environ, "COLUMNS": "200", **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaints = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    return process.returncode, output.decode(), complaints.decode()


class Terminal:
    """A command on a terminal, and all that it has drawn so far, without colours."""

    def __init__(self, process: asyncio.subprocess.Process, descriptor: int) -> None:
        self.process = process
        self._drawn = b""
        self._more = asyncio.Event()
        self._descriptor = descriptor
        asyncio.get_running_loop().add_reader(descriptor, self._read)

    async def shows(self, pattern: str) -> str:
        """Waits until what matches is drawn from now on."""
        async with asyncio.timeout(20):
            while (found := re.search(pattern, self._text())) is None:
                self._more.clear()
                await self._more.wait()
        self._drawn = b""
        return found[0]

    def _text(self) -> str:
        return re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", self._drawn.decode(errors="replace"))

    def _read(self) -> None:
        try:
            self._drawn += os.read(self._descriptor, 65_536)
        except OSError:
            asyncio.get_running_loop().remove_reader(self._descriptor)
        self._more.set()


@asynccontextmanager
async def terminal(*arguments: str) -> AsyncIterator[Terminal]:
    """A command on a terminal of its own."""
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "cli", *arguments),
        env={**os.environ, "COLUMNS": "200", "LINES": "50", "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = Terminal(process, ours)
    try:
        yield shown
    finally:
        asyncio.get_running_loop().remove_reader(ours)
        os.close(ours)
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_breakers_once(standings: RunningServer) -> None:
    """A line for each of the 21, by name."""
    code, output, _ = await run("breakers", "--once", "--address", standings.admin_address)
    names = re.findall(r"^ *(postgres\S*|redis\S*) +CLOSED +AUTO", output, re.MULTILINE)

    assert (code, len(names), names) == (0, 21, sorted(names))


async def test_each_worker(standings: RunningServer) -> None:
    """A line for each worker of each breaker, with its process."""
    code, output, _ = await run(
        "breakers", "--once", "--workers", "--address", standings.admin_address
    )
    pids = re.findall(r"^ *\S+ +0 +(\d+) +CLOSED", output, re.MULTILINE)

    assert (code, len(pids), len(set(pids))) == (0, 21, 1)
    assert is_alive(int(pids[0]))


async def test_the_pages_for_operators_can_be_typed(standings: RunningServer) -> None:
    """The commands of docs/runbooks that ask a running server are taken by it."""
    commands = [
        line.strip()
        for page in sorted(Path("docs/runbooks").glob("*.md"))
        for line in page.read_text().splitlines()
        if re.match(r"    standings (breakers|shards|audit list)", line)
    ]
    failed = []
    for command in commands:
        _, *arguments = shlex.split(command, comments=True)
        code, _, complaints = await run(
            *arguments, STANDINGS_SERVER_ADMIN_ADDRESS=standings.admin_address
        )
        if code:
            failed.append((command, complaints))

    assert commands
    assert failed == []


async def test_the_address_comes_from_the_settings(standings: RunningServer) -> None:
    """Without an option, STANDINGS_SERVER_ADMIN_ADDRESS says where."""
    code, output, _ = await run("breakers", STANDINGS_SERVER_ADMIN_ADDRESS=standings.admin_address)

    assert (code, "redis/shard-15" in output) == (0, True)


async def test_a_mode_is_set_and_ended(standings: RunningServer) -> None:
    """Who, why and how long are in the table; AUTO ends it."""
    at = ("--address", standings.admin_address)
    code, output, _ = await run(
        "breakers",
        *("set", "redis/shard-07", "forced-open", "--reason", "[red]moving it", "--ttl", "2m"),
        *("--actor", "alex", *at),
    )
    assert (code, "in force in workers 0" in output) == (0, True)
    assert re.search(
        r"redis/shard-07 +\S+ +FORCED_OPEN .*alex, (2 min 00|1 min 5\d) s left: \[red\]moving it",
        output,
    )

    code, output, _ = await run(
        "breakers", "set", "redis/*", "AUTO", "--reason", "it has moved", *at
    )
    assert code == 0
    assert "FORCED" not in output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("redis/shard-77", "auto", "--reason", "long enough"), "no breaker of that name"),
        (("redis", "auto", "--reason", "short"), "reason: must be 8 to 200 characters"),
        (("redis", "forced-open", "--reason", "long enough", "--ttl", "25h"), "ttl: must be 1 s"),
    ],
)
async def test_a_refusal_is_a_sentence(
    standings: RunningServer, arguments: tuple[str, ...], words: str
) -> None:
    """Exit code 1, and what was wrong."""
    code, output, complaints = await run(
        "breakers", "set", *arguments, "--address", standings.admin_address
    )

    assert (code, output) == (1, "")
    assert words in complaints
    assert "Traceback" not in complaints


async def test_a_ttl_that_is_none_is_refused_at_once() -> None:
    """Before any server is asked."""
    code, _, complaints = await run(
        "breakers", "set", "redis", "forced-open", "--reason", "long enough", "--ttl", "soon"
    )

    assert code == 2
    assert "must be a number and s, m or h" in complaints


@pytest.mark.parametrize("command", ["breakers", "shards"])
async def test_nobody_answers(command: str) -> None:
    """The address is named."""
    code, _, complaints = await run(command, "--once", "--address", "127.0.0.1:1")

    assert (code, complaints) == (1, "no answer from 127.0.0.1:1\n")


async def test_shards_once(standings: RunningServer) -> None:
    """A line for each of the 16, with its node and its breaker."""
    code, output, _ = await run("shards", "--once", "--address", standings.admin_address)
    lines = re.findall(r"^ *(\d\d) +(\S+:\d+) +\d+ .*(CLOSED)", output, re.MULTILINE)

    assert (code, [line[0] for line in lines]) == (0, [f"{shard:02}" for shard in range(16)])
    assert {line[1] for line in lines} <= set(standings.cluster.addresses)


async def test_the_table_follows(standings: RunningServer) -> None:
    """What another operator sets is drawn; Ctrl-C ends it quietly."""
    at = ("--address", standings.admin_address)
    async with terminal("breakers", *at) as shown:
        await shown.shows(r"redis/shard-15 +CLOSED +AUTO")
        await run("breakers", "set", "redis", "forced-open", "--reason", "all of it moves", *at)
        await shown.shows(r"redis/shard-15 +CLOSED +FORCED_OPEN .* left: all of it moves")
        shown.process.send_signal(signal.SIGINT)

        assert await asyncio.wait_for(shown.process.wait(), 10) == 0


async def test_the_shards_are_drawn_again(standings: RunningServer) -> None:
    """Every second, without being asked."""
    async with terminal("shards", "--address", standings.admin_address) as shown:
        for _ in range(2):
            await shown.shows(r"15 +\S+:\d+ ")
        shown.process.send_signal(signal.SIGTERM)

        assert await asyncio.wait_for(shown.process.wait(), 10) == 0


async def test_a_table_waits_for_a_server_that_is_away() -> None:
    """It says so and goes on asking."""
    async with terminal("breakers", "--address", "127.0.0.1:1") as shown:
        await shown.shows(r"no answer from 127\.0\.0\.1:1")

        assert shown.process.returncode is None
