"""Why a call was not made.

Refused
|- CircuitOpen      what it would call is failing, or was forced open
|- BulkheadFull     as many such calls are under way, or wait, as there may be
`- InjectedError    a fault that an operator has asked for
"""

from __future__ import annotations


class Refused(Exception):
    """The call was not made; nothing happened anywhere."""


class CircuitOpen(Refused):
    """What it would call is failing, or was forced open; `retry_after_s` says when to ask again."""

    def __init__(self, name: str, retry_after_s: float) -> None:
        super().__init__(f"the breaker {name} is open")
        self.name = name
        self.retry_after_s = retry_after_s


class BulkheadFull(Refused):
    """As many such calls are under way, or wait, as there may be."""

    def __init__(self) -> None:
        super().__init__("too many such calls are under way")


class InjectedError(Refused):
    """A fault that an operator has asked for; it counts as one of what would have been called."""

    def __init__(self, name: str) -> None:
        super().__init__(f"a fault was injected into {name}")
