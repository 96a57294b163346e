"""Becomes a server that dies with its parent; run as a script, never imported.

    python -I -S trampoline.py IDENTITY SIGNAL PARENT PROGRAM [ARGUMENT ...]

IDENTITY is `same`, `namespace` (a user namespace of its own, where root is nobody) or a user id.
A script of its own because the code that Popen runs between fork and exec may not run Python
safely while the parent has threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

CLONE_NEWUSER = 0x10000000
PR_SET_PDEATHSIG = 1
EXIT_CANNOT = 126
"""The shell's code for a command that was found and could not be run."""


def change_identity(identity: str) -> None:
    """Stops being root, which PostgreSQL refuses to run as.

    In a user namespace without a map the process looks like nobody to itself while the kernel
    still lets it use root's files: no account is made and nothing changes hands.
    """
    if identity == "namespace":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWUSER) != 0:
            raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    elif identity != "same":
        os.setgroups([])
        os.setgid(int(identity))
        os.setuid(int(identity))


def die_with_parent(death_signal: int, parent: int) -> None:
    """Asks the kernel to signal this process when its parent's thread ends, however it ends."""
    if not sys.platform.startswith("linux"):
        return
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
    # A parent that died before the line above sends no signal any more.
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def main(arguments: list[str]) -> None:
    """Replaces this process with the program; returns only by raising."""
    identity, death_signal, parent, *command = arguments
    # In this order: a change of credentials clears the death signal.
    change_identity(identity)
    die_with_parent(int(death_signal), int(parent))
    # PGPORT, PGDATA and their like belong to the caller's own PostgreSQL.
    inherited = os.environ.items()  # noqa: TID251 - handed on, not read
    environment = {name: value for name, value in inherited if not name.startswith("PG")}
    os.execve(command[0], command, environment)  # noqa: S606 - replacing this process is its task


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"cannot run {sys.argv[4:5]}: {error}\n")
        sys.exit(EXIT_CANNOT)
