"""Tokens that were good for one call: a file for each that was used, which all workers of a machine
see. Needs neither store, because what is done with such tokens does not either.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Final

from core.errors import Unavailable
from core.ports import Clock

_SWEEP_MS: Final = 60_000


class UsedTokens:
    """Which tokens were used, in a directory that the workers of a machine share."""

    def __init__(self, directory: Path, clock: Clock) -> None:
        self._directory = directory
        self._clock = clock
        self._swept_ms = 0

    def use(self, token_id: str, expires_s: float) -> bool:
        """Notes that a token is used; False where it was before. Kept until it has expired.

        Raises Unavailable where that cannot be noted: then nothing may be done with it.
        """
        name = hashlib.sha256(token_id.encode()).hexdigest()
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._sweep()
            descriptor = os.open(
                self._directory / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600
            )
        except FileExistsError:
            return False
        except OSError as error:
            raise Unavailable("this machine cannot note that the token is used") from error
        try:
            os.utime(descriptor, (expires_s, expires_s))
        finally:
            os.close(descriptor)
        return True

    def _sweep(self) -> None:
        """Forgets what has expired; from time to time."""
        now_ms = self._clock.now_ms()
        if now_ms < self._swept_ms + _SWEEP_MS:
            return
        self._swept_ms = now_ms
        for file in self._directory.iterdir():
            # One that is being written has the time of now.
            if file.stat().st_mtime * 1000 + _SWEEP_MS < now_ms:
                file.unlink(missing_ok=True)
