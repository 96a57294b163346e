"""Exemplars of a worker: for each bucket of a histogram, the last traced call that fell into it.

prometheus_client keeps none where processes share their measures by files. So they go to the
supervisor by a file of their own, which is replaced when there are new ones.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from bootstrap.state_files import replace_file

Labels = tuple[tuple[str, str], ...]


class Exemplars:
    """The last exemplar of each series of this process. `file` None: nobody reads them."""

    def __init__(self) -> None:
        self.file: Path | None = None
        self._rows: dict[tuple[str, Labels], tuple[Mapping[str, str], float, float]] = {}
        self._changed = False

    def keep(
        self, series: tuple[str, Labels], about: Mapping[str, str], value: float, at_s: float
    ) -> None:
        """Puts an observation in place of the last one of its series, a name and its labels."""
        self._rows[series] = (about, value, at_s)
        self._changed = True

    def write(self) -> None:
        """Leaves them in the file, if there are new ones. Cost: a small file."""
        if self.file is None or not self._changed:
            return
        self._changed = False
        rows = [[name, dict(labels), *row] for (name, labels), row in self._rows.items()]
        with suppress(OSError):  # All else is measured as well without them.
            replace_file(self.file, json.dumps(rows).encode(), sync=False)


EXEMPLARS: Final = Exemplars()
"""Those of this process."""
