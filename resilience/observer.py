"""Who wants to know what the guards do."""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Takes counts. Nothing here may wait or raise."""

    def called(self, name: str, kind: str, count: int) -> None:
        """So many more calls under a breaker ended as ok, failed, slow, neutral or late."""

    def refused(self, name: str, why: str, count: int) -> None:
        """So many more calls were not let through: open, probe or forced."""

    def changed(self, name: str, old: str, new: str) -> None:
        """A breaker went from one state to another."""

    def rated(self, name: str, state: str, failure_rate: float, slow_rate: float) -> None:
        """A breaker's state, and what it sees of the last seconds; about once a second."""

    def probed(self, name: str, most: int) -> None:
        """The most probes under a breaker that were ever on their way at once."""

    def retried(self, target: str, *, denied: bool) -> None:
        """A call was made once more, or, `denied`, the budget did not allow it."""

    def abandoned(self, delta: int) -> None:
        """So many more calls, or fewer, go on although nobody waits for them."""


class NullObserver:
    """Does not care."""

    def called(self, name: str, kind: str, count: int) -> None:
        """Nothing."""

    def refused(self, name: str, why: str, count: int) -> None:
        """Nothing."""

    def changed(self, name: str, old: str, new: str) -> None:
        """Nothing."""

    def rated(self, name: str, state: str, failure_rate: float, slow_rate: float) -> None:
        """Nothing."""

    def probed(self, name: str, most: int) -> None:
        """Nothing."""

    def retried(self, target: str, *, denied: bool) -> None:
        """Nothing."""

    def abandoned(self, delta: int) -> None:
        """Nothing."""
