"""The embedded stack as a whole: it starts, keeps its data, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from bootstrap.embedded.binaries import find_postgres
from bootstrap.embedded.errors import DirectoryLocked, StartFailed
from bootstrap.embedded.postgres import EmbeddedPostgres
from bootstrap.embedded.stack import EmbeddedStack

ROOT = Path(__file__).resolve().parents[3]
NOBODY = 65534
AS_NOBODY: dict[str, Any] = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
GONE_WITHIN_S = 10.0
SERVE_STACK = """
import asyncio, sys
from pathlib import Path
from bootstrap.embedded.stack import EmbeddedStack

async def serve():
    async with EmbeddedStack(Path(sys.argv[1]), fsync=False) as stack:
        pids = [stack.postgres.pid, *(node.pid for node in stack.redis.nodes)]
        print(*pids, flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(serve())
"""
# PostgreSQL alone: whose user it is matters to it and not to Redis, and it needs no package that
# an interpreter of another version might not load.
SERVE_POSTGRES = """
import asyncio, sys
from pathlib import Path
from bootstrap.embedded.binaries import find_postgres
from bootstrap.embedded.postgres import EmbeddedPostgres

async def serve():
    postgres = EmbeddedPostgres(Path(sys.argv[1]), find_postgres(), fsync=False)
    await postgres.start()
    print(postgres.pid, flush=True)
    sys.stdin.read()

asyncio.run(serve())
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A directory that any user may pass through, unlike pytest's own as root."""
    with tempfile.TemporaryDirectory(prefix="standings-test-") as name:
        yield Path(name)


async def test_second_start_keeps_the_data(folder: Path) -> None:
    """What was committed is there after a stop and a start of another stack object."""
    async with EmbeddedStack(folder, fsync=False) as first:
        with psycopg.connect(first.postgres_dsn) as connection:
            connection.execute("create table kept as select 7 as seven")

    async with EmbeddedStack(folder, fsync=False) as second:
        with psycopg.connect(second.postgres_dsn) as connection:
            row = connection.execute("select seven from kept").fetchone()

    assert row == (7,)
    assert not second.postgres.running


async def test_directory_in_use(folder: Path) -> None:
    """A second stack in the same directory is refused and told whose it is."""
    async with EmbeddedStack(folder, fsync=False):
        with pytest.raises(DirectoryLocked, match=str(os.getpid())):
            await EmbeddedStack(folder, fsync=False).start()


async def test_failed_start_leaves_nothing(folder: Path) -> None:
    """When one store cannot start, the other one is stopped and the directory is free again."""
    stack = EmbeddedStack(folder, fsync=False)
    folder.joinpath("postgres").mkdir()
    folder.joinpath("postgres", "PG_VERSION").write_text("9.6\n")

    with pytest.raises(StartFailed, match=r"made by PostgreSQL 9\.6"):
        await stack.start()

    assert not any(node.running for node in stack.redis.nodes)


async def test_start_after_a_crash_of_everything(folder: Path) -> None:
    """A pid file whose number belongs to somebody else by now does not stop the start."""
    first = EmbeddedPostgres(folder, find_postgres(), fsync=False)
    await first.start()
    await first.kill()
    pid_file = folder / "postgres" / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        pid_file.write_text("\n".join([str(stranger.pid), *lines[1:]]) + "\n")
        second = EmbeddedPostgres(folder, find_postgres(), fsync=False)
        await second.start()
        await second.stop()
        stranger.communicate(b"\n")

    assert not pid_file.exists()


def test_killed_parent_leaves_no_child(folder: Path) -> None:
    """After SIGKILL of the program that started them, no server is left, and a restart works."""
    for _ in range(2):
        with _program(sys.executable, SERVE_STACK, folder) as program:
            pids = _kill_once_started(program)

        assert len(pids) == 7
        assert _gone(pids)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can start a program as another user")
def test_serves_another_user(folder: Path) -> None:
    """An ordinary user gets a PostgreSQL of their own, and it dies with their program."""
    os.chown(folder, NOBODY, NOBODY)
    for _ in range(2):
        with _program(_python_for_nobody(), SERVE_POSTGRES, folder, **AS_NOBODY) as program:
            pids = _kill_once_started(program)

        assert len(pids) == 1
        assert folder.joinpath("postgres").stat().st_uid == NOBODY
        assert _gone(pids)


async def test_root_without_namespaces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where root gets no user namespace, PostgreSQL runs as nobody; and back again."""
    if os.geteuid() != 0:
        pytest.skip("only root has to become somebody else")
    server = EmbeddedPostgres(folder, find_postgres(), fsync=False)
    monkeypatch.setattr("bootstrap.embedded.postgres._identity", lambda _: str(NOBODY))
    await server.start()
    owner_status = Path(f"/proc/{server.pid}/status").read_text()
    await server.stop()
    monkeypatch.undo()

    await server.start()
    await server.stop()

    assert f"Uid:\t{NOBODY}\t" in owner_status
    assert folder.joinpath("postgres").stat().st_uid == 0


def _program(python: str, source: str, folder: Path, **identity: Any) -> subprocess.Popen[str]:
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    return subprocess.Popen(
        [python, "-c", source, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": f"{ROOT}:{packages}", "HOME": str(folder), "PATH": os.defpath},
        **identity,
    )


def _kill_once_started(program: subprocess.Popen[str]) -> list[int]:
    assert program.stdout is not None
    pids = [int(pid) for pid in program.stdout.readline().split()]
    program.send_signal(signal.SIGKILL)
    return pids


def _python_for_nobody() -> str:
    """An interpreter that nobody may run: our own may lie in a private directory."""
    for python in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        check = [python, "-c", "import sys; sys.exit(sys.version_info < (3, 11))"]
        try:
            subprocess.run(check, check=True, cwd="/", **AS_NOBODY)
        except (OSError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip("no interpreter that nobody may run")


def _gone(pids: list[int]) -> bool:
    deadline = time.monotonic() + GONE_WITHIN_S
    while any(Path(f"/proc/{pid}/stat").exists() and not _is_zombie(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
