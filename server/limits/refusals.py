"""Who was refused: counted by role, and the worst named now and then in the log."""

from __future__ import annotations

import logging
import time
from collections import Counter
from typing import Final

from server import metrics
from server.identity.policy import Kind

_LINE_S: Final = 10.0
_NAMES_MAX: Final = 1_000
_TOP: Final = 5

_log = logging.getLogger(__name__)


class Refusals:
    """Counts refusals. Names are no labels, because there may be any number of them: one line in
    ten seconds has those who were refused most.
    """

    def __init__(self) -> None:
        self._names: Counter[str] = Counter()
        self._line_s = 0.0

    def count(self, name: str, role: str, kind: Kind, reason: str) -> None:
        """Counts one refusal."""
        metrics.LIMITED.labels(role, kind.name.lower(), reason).inc()
        if name in self._names or len(self._names) < _NAMES_MAX:
            self._names[name] += 1
        now_s = time.monotonic()
        if now_s < self._line_s:
            return
        self._line_s = now_s + _LINE_S
        _log.warning(
            "callers were refused",
            extra={"refused": self._names.total(), "most": dict(self._names.most_common(_TOP))},
        )
        self._names.clear()
