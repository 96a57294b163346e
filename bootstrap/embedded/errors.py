"""What can go wrong with the embedded servers; every message says how to mend it.

EmbeddedError
|- BinaryMissing      no server program was found
|- DirectoryLocked    another stack uses the directory
`- StartFailed        a server ended, or did not become ready in time
"""

from __future__ import annotations


class EmbeddedError(Exception):
    """The embedded servers cannot be had."""


class BinaryMissing(EmbeddedError):
    """No program of the wanted kind was found in any of the places looked at."""


class DirectoryLocked(EmbeddedError):
    """Another stack uses the directory."""


class StartFailed(EmbeddedError):
    """A server ended, or did not become ready in time; the message ends with its last words."""
