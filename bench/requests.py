"""The requests of a run: random users of one board, and each submission with an id of its own."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

from google.protobuf.message import Message

from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2

BATCH_SIZE: Final = 500
FRIEND_COUNT: Final = 100
SCORE_MAX: Final = 100_000
"""Some users of a big board share a score, as they do in games."""
_TEMPLATE: Final = b"{{"
"""ghz takes its data for a template where it holds this, even data in bytes."""
_LOW_BITS: Final = 0x7F
_MORE: Final = 0x80


class Requests:
    """Makes requests for a board on which users 1 to `entry_count` have entries."""

    def __init__(
        self, board_id: str, entry_count: int, rng: random.Random, new_id: Callable[[], str]
    ) -> None:
        self.board_id = board_id
        self.entry_count = entry_count
        self._rng = rng
        self._new_id = new_id
        self._sequence = 0

    def submit_score(self) -> pb.SubmitScoreRequest:
        """A new score of one user."""
        return self._submission(self._user())

    def batch_submit_scores(self) -> pb.BatchSubmitScoresRequest:
        """New scores of 500 different users."""
        return pb.BatchSubmitScoresRequest(submissions=self._submissions())

    def stream_submit_scores(self) -> pb.StreamSubmitScoresRequest:
        """The next message of a stream, with new scores of 500 different users."""
        self._sequence += 1
        return pb.StreamSubmitScoresRequest(
            sequence=self._sequence, submissions=self._submissions()
        )

    def get_entry(self) -> pb.GetEntryRequest:
        """The rank of one user."""
        return pb.GetEntryRequest(board_id=self.board_id, user_id=self._user())

    def batch_get_entries(self) -> pb.BatchGetEntriesRequest:
        """The ranks of 100 different users."""
        return pb.BatchGetEntriesRequest(board_id=self.board_id, user_ids=self._users(FRIEND_COUNT))

    def top(self, size: int) -> pb.ListEntriesRequest:
        """The first page."""
        return pb.ListEntriesRequest(board_id=self.board_id, page_size=size)

    def page_at(self, rank: int, token: str) -> pb.ListEntriesRequest:
        """Ten entries from a rank on, read from the index: no cache answers one who brings a
        consistency token.
        """
        return pb.ListEntriesRequest(
            board_id=self.board_id,
            page_size=10,
            start_rank=rank,
            options=types_pb2.ReadOptions(consistency_token=token),
        )

    def around(self) -> pb.ListEntriesAroundRequest:
        """Ten entries, one user's among them."""
        return pb.ListEntriesAroundRequest(
            board_id=self.board_id, user_id=self._user(), above=5, below=4
        )

    def _user(self) -> int:
        return self._rng.randint(1, self.entry_count)

    def _users(self, count: int) -> list[int]:
        return self._rng.sample(range(1, self.entry_count + 1), min(count, self.entry_count))

    def _submissions(self) -> list[pb.SubmitScoreRequest]:
        return [self._submission(user_id) for user_id in self._users(BATCH_SIZE)]

    def _submission(self, user_id: int) -> pb.SubmitScoreRequest:
        return pb.SubmitScoreRequest(
            board_id=self.board_id,
            user_id=user_id,
            score=self._rng.randrange(SCORE_MAX),
            submission_id=self._new_id(),
        )


def write_requests(path: Path, requests: Iterable[Message]) -> None:
    """Leaves requests in a file as ghz reads them: each with its length before it."""
    with path.open("wb") as file:
        for part in delimited(requests):
            file.write(part)


def delimited(requests: Iterable[Message]) -> Iterator[bytes]:
    """Requests in bytes, each with its length before it; without the few that ghz would take for
    the beginning of a template.
    """
    last = b""
    for request in requests:
        body = request.SerializeToString()
        part = _varint(len(body)) + body
        if _TEMPLATE not in last + part:
            last = part[-1:]
            yield part


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > _LOW_BITS:
        out.append(number & _LOW_BITS | _MORE)
        number >>= 7
    out.append(number)
    return bytes(out)
