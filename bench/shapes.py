"""The calls that are measured by ghz, and how each is made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.message import Message

from bench.contract import SERVICE
from bench.requests import BATCH_SIZE, FRIEND_COUNT, Requests

SUBMIT: Final = "SubmitScore"
BATCH_SUBMIT: Final = f"BatchSubmitScores of {BATCH_SIZE}"
STREAM: Final = f"StreamSubmitScores of {BATCH_SIZE}, Python client"
GET: Final = "GetEntry"
BATCH_GET: Final = f"BatchGetEntries of {FRIEND_COUNT}"
TOP_10: Final = "ListEntries top 10"
TOP_100: Final = "ListEntries top 100"
AROUND: Final = "ListEntriesAround 10"
FIRST: Final = "page at rank 1, no cache"
DEEP: Final = "page at the middle, no cache"
WATCH: Final = "WatchEntries fan-out, Python client"
FEW: Final = 4
"""Callers of a call that is worth hundreds: more would only wait."""


@dataclass(frozen=True, slots=True)
class Shape:
    """One kind of call.

    `callers` 0: as many as the run has. `units` a call is worth, and what they are. `once`: no
    request may be sent twice; then `rate_guess` calls/s is more than anybody expects. `echoed`: its
    floor is an echo of the same sizes.
    """

    name: str
    method: str
    make: Callable[[Requests], Message]
    callers: int = 0
    units: int = 1
    unit: str = "calls"
    once: bool = False
    rate_guess: int = 0
    echoed: bool = False

    @property
    def path(self) -> str:
        """The method as a transport knows it."""
        return f"/{SERVICE}/{self.method}"

    @property
    def full_method(self) -> str:
        """The method as ghz wants it."""
        return f"{SERVICE}.{self.method}"


SUBMIT_SHAPE: Final = Shape(
    SUBMIT, "SubmitScore", Requests.submit_score, once=True, rate_guess=20_000, echoed=True
)
GET_SHAPE: Final = Shape(GET, "GetEntry", Requests.get_entry, echoed=True)
SHAPES: Final[Sequence[Shape]] = (
    SUBMIT_SHAPE,
    Shape(
        BATCH_SUBMIT,
        "BatchSubmitScores",
        Requests.batch_submit_scores,
        callers=FEW,
        units=BATCH_SIZE,
        unit="scores",
        once=True,
        rate_guess=120,
    ),
    GET_SHAPE,
    Shape(
        BATCH_GET,
        "BatchGetEntries",
        Requests.batch_get_entries,
        callers=FEW,
        units=FRIEND_COUNT,
        unit="ranks",
    ),
    Shape(TOP_10, "ListEntries", lambda requests: requests.top(10), echoed=True),
    Shape(TOP_100, "ListEntries", lambda requests: requests.top(100), echoed=True),
    Shape(AROUND, "ListEntriesAround", Requests.around, echoed=True),
)


def page_shapes(token: str) -> Sequence[Shape]:
    """The first page and the one in the middle of the board, read from the index for one who
    brings a consistency token.
    """
    return (
        Shape(FIRST, "ListEntries", lambda requests: requests.page_at(1, token), callers=FEW),
        deep_shape(token),
    )


def deep_shape(token: str) -> Shape:
    """The page in the middle of the board."""
    return Shape(
        DEEP,
        "ListEntries",
        lambda requests: requests.page_at(max(1, requests.entry_count // 2), token),
        callers=FEW,
    )
