"""The directory that the workers of one server share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bootstrap.errors import NotConfigured

_LOCK: Final = "lock"


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Makes the directory where it is missing, and keeps other servers out of it. The kernel gives
    it back when this process ends, however it ends. Raises NotConfigured.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (directory / _LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise NotConfigured(
                f"{directory.absolute()} is in use by another server: choose another directory"
                " with STANDINGS_STATE_DIRECTORY"
            ) from None
        yield
