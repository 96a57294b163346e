"""One PostgreSQL as a child: made once, started as often as you like, its data kept."""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bootstrap.embedded.binaries import server_version
from bootstrap.embedded.child import Child, Command
from bootstrap.embedded.errors import StartFailed
from bootstrap.embedded.ports import LOOPBACK, free_ports
from bootstrap.embedded.waiting import POLL_INTERVAL_S, until

INITDB_TIMEOUT_S: Final = 60.0
START_TIMEOUT_S: Final = 30.0
"""Covers crash recovery, and a predecessor that is still shutting down."""
STOP_TIMEOUT_S: Final = 10.0
PORT_ATTEMPTS_MAX: Final = 3
NOBODY: Final = 65534
_TRAMPOLINE: Final = Path(__file__).with_name("trampoline.py")
_STATUS_LINE: Final = 7
"""Where postmaster.pid says `ready`; its first line is the process id."""


class EmbeddedPostgres:
    """A PostgreSQL server of this process.

    The data lives in `directory`/postgres and outlives the server. Connections need the password
    that `dsn` carries: on a shared machine the loopback interface is everybody's. `settings` are
    PostgreSQL's own, by name.
    """

    def __init__(
        self,
        directory: Path,
        bin_directory: Path,
        *,
        fsync: bool = True,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._directory = directory.absolute()
        self._data = self._directory / "postgres"
        self._log = self._directory / "postgres.log"
        self._password_file = self._directory / "postgres.password"
        self._bin = bin_directory
        self._fsync = fsync
        self._settings = settings
        self._identity = "same"
        self._port: int | None = None
        self._child: Child | None = None

    @property
    def dsn(self) -> str:
        """How to connect, the password included: never print it."""
        return self.dsn_of("postgres")

    def dsn_of(self, database: str) -> str:
        """How to connect to one database of this server."""
        password = self._password_file.read_text(encoding="ascii")
        return f"postgresql://postgres:{password}@{LOOPBACK}:{self._port}/{database}"

    @property
    def port(self) -> int:
        """The port of the last start; later starts of this object keep it."""
        if self._port is None:
            raise StartFailed("PostgreSQL was not started")
        return self._port

    async def start(self) -> None:
        """Makes the data directory if there is none, and serves. Raises StartFailed."""
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._log.write_bytes(b"")
        self._identity = _identity(self._bin)
        if not (self._data / "PG_VERSION").exists():
            await self._initialise()
        self._check_version()
        self._hand_over(self._data)
        await self._serve()

    async def stop(self) -> None:
        """Ends the server and waits for it; its data is complete on disk afterwards."""
        if self._child is not None:
            await self._child.stop(signal.SIGINT, timeout_s=STOP_TIMEOUT_S)

    async def kill(self) -> None:
        """Ends the server as a power cut would, except that the disk stays."""
        if self._child is not None:
            await self._child.kill()

    async def restart(self) -> None:
        """Starts a stopped or killed server again, on the same port."""
        await self.stop()
        await self._serve()

    def freeze(self) -> None:
        """Holds the server and all its sessions; they neither answer nor close."""
        if self._child is not None:
            self._child.freeze()

    def thaw(self) -> None:
        """Lets a frozen server go on."""
        if self._child is not None:
            self._child.thaw()

    @property
    def pid(self) -> int | None:
        """The process id of the last start."""
        return self._child.pid if self._child else None

    @property
    def running(self) -> bool:
        """Whether the server's process exists, frozen or not."""
        return self._child is not None and self._child.running

    async def _initialise(self) -> None:
        # Made under another name first: a half-made directory is never taken for a whole one.
        draft = self._directory / "postgres.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        self._hand_over(draft)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(18), encoding="ascii")
        self._hand_over(self._password_file)
        arguments = [
            *(str(self._bin / "initdb"), "-D", str(draft), "-U", "postgres"),
            *("-A", "scram-sha-256", f"--pwfile={self._password_file}"),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"),
            *(() if self._fsync else ("--no-sync",)),
        ]
        command = Command(arguments, self._log, signal.SIGKILL, self._identity)
        self._child = Child(command)
        await self._child.ended(timeout_s=INITDB_TIMEOUT_S)
        if self._child.exit_code != 0:
            await self._child.kill()
            raise self._failure("initdb failed")
        draft.rename(self._data)

    def _check_version(self) -> None:
        made_by = (self._data / "PG_VERSION").read_text(encoding="ascii").strip()
        program = server_version(self._bin / "postgres")
        if program and made_by != str(program[0]):
            raise StartFailed(
                f"{self._data} was made by PostgreSQL {made_by}, {self._bin} holds {program[0]}:"
                " name the old programs with STANDINGS_EMBEDDED_POSTGRES_BIN, or remove the folder"
            )

    async def _serve(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        attempts = 0
        while True:
            self._disown_reused_pid()
            port = self._port or free_ports(1)[0]
            self._child = child = Child(self._server_command(port))
            await self._ready_or_gone(child, timeout_s=deadline - time.monotonic())
            if self._is_ready(child):
                self._port = port
                return
            attempts += 1
            # A pid file that outlives our attempt is a predecessor's that is still shutting down,
            # or whose sessions are: wait for them. Else the port may have been taken meanwhile.
            predecessor = (self._data / "postmaster.pid").exists()
            given_up = not predecessor and attempts >= PORT_ATTEMPTS_MAX
            if child.running or given_up or time.monotonic() > deadline:
                await child.kill()
                raise self._failure("PostgreSQL did not start")
            await asyncio.sleep(POLL_INTERVAL_S)

    def _server_command(self, port: int) -> Command:
        settings = {
            "listen_addresses": LOOPBACK,
            "port": str(port),
            # A socket's path may hold 107 bytes, and a working directory is often longer.
            "unix_socket_directories": "",
            "max_connections": "200",
            "timezone": "UTC",
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            **self._settings,
        }
        arguments = [str(self._bin / "postgres"), "-D", str(self._data)]
        for name, value in settings.items():
            arguments += ["-c", f"{name}={value}"]
        # SIGINT is the fast shutdown: sessions are cut off and the data is made complete.
        return Command(arguments, self._log, signal.SIGINT, self._identity)

    async def _ready_or_gone(self, child: Child, *, timeout_s: float) -> None:
        async def settled() -> bool:
            return not child.running or self._is_ready(child)

        await until(settled, timeout_s=timeout_s)

    def _is_ready(self, child: Child) -> bool:
        lines = self._pid_file_lines()
        return (
            child.running
            and len(lines) > _STATUS_LINE
            and lines[0] == str(child.pid)
            and lines[_STATUS_LINE].strip() == "ready"
        )

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self._data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return []

    def _disown_reused_pid(self) -> None:
        """Mends a pid file left by a crash whose number belongs to a stranger by now.

        PostgreSQL would refuse to start. It overlooks its own parent's number, and still checks
        that no session of the crashed server holds the data: so our number goes in.
        """
        lines = self._pid_file_lines()
        if not lines or not lines[0].isdigit():
            return
        try:
            command_line = Path("/proc", lines[0], "cmdline").read_bytes()
        except OSError:
            return
        if os.fsencode(self._data) not in command_line:
            lines[0] = str(os.getpid())
            (self._data / "postmaster.pid").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _hand_over(self, path: Path) -> None:
        """Makes the identity that PostgreSQL runs under the owner; needed as root only."""
        if os.geteuid() != 0:
            return
        owner = int(self._identity) if self._identity.isdigit() else 0
        if owner:
            self._directory.chmod(0o711)  # lets it pass through, not look around
        if path.stat().st_uid == owner:
            return
        for member in [path, *path.rglob("*")]:
            os.chown(member, owner, owner, follow_symlinks=False)

    def _failure(self, what: str) -> StartFailed:
        hint = ""
        if self._identity.isdigit():
            hint = (
                "\nPostgreSQL refuses to run as root, and this machine refuses root a namespace,"
                f" so it runs as user {self._identity}, who must be able to reach {self._bin} and"
                f" {self._directory}. Running everything as an ordinary user mends it too."
            )
        tail = self._child.log_tail() if self._child else ""
        return StartFailed(f"{what}; {self._log} ends with\n{tail}{hint}")


def _identity(bin_directory: Path) -> str:
    """The trampoline's word for who PostgreSQL runs as; found by trying."""
    if os.geteuid() != 0:
        return "same"
    trial = subprocess.run(  # noqa: S603 - our own script and a program found by binaries.py
        [
            *(sys.executable, "-I", "-S", str(_TRAMPOLINE), "namespace"),
            *(str(int(signal.SIGKILL)), str(os.getpid())),
            *(str(bin_directory / "postgres"), "--version"),
        ],
        capture_output=True,
        check=False,
    )
    return "namespace" if trial.returncode == 0 else str(NOBODY)
