"""What the front pages promise is what happens: their examples run against a real server."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

from tests.fixtures.server import RunningServer

_ROOT = Path(__file__).parents[2]
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


async def _run(code: str, address: str) -> str:
    """What an example prints. A process of its own: grpc is made for one loop a process."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        f"ADDRESS = {address!r}\n{code}",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_the_front_pages_examples_print_what_they_say(standings: RunningServer) -> None:
    """README.md: the blocks of Python, and the output below each."""
    page = (_ROOT / "README.md").read_text()
    promised = [part.split("```")[0] for part in page.split("It prints\n\n```\n")[1:]]

    printed = [await _run(code, standings.address) for code in _BLOCK.findall(page)]

    assert printed == promised


async def test_every_example_of_the_client_runs(standings: RunningServer) -> None:
    """clients/python/README.md: all blocks, one after the other, on one server."""
    blocks = _BLOCK.findall((_ROOT / "clients" / "python" / "README.md").read_text())
    printed = [await _run(code, standings.address) for code in blocks]

    assert printed[0].splitlines() == ["APPLIED 4200", "1 of 1", "1 7 4200"]
    assert len(printed) == 8
