"""pybreaker, loaded without what it can do with Redis: for that it loads the whole client, which no
worker has a use for and which is a quarter of what its start takes.
"""

from __future__ import annotations

import sys

_HIDDEN = "redis" not in sys.modules
if _HIDDEN:
    # What Python takes for a package that is not installed, which pybreaker can do without.
    sys.modules["redis"] = None  # type: ignore[assignment]
try:
    import pybreaker
finally:
    if _HIDDEN:
        del sys.modules["redis"]

__all__ = ["pybreaker"]
