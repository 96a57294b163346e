"""Failures of a start that an operator can mend. Apart from the container: to import that takes
half a second, which a supervisor does not have to spend.
"""

from __future__ import annotations


class NotConfigured(Exception):
    """A store is not named in the settings, or not ready for this version."""
