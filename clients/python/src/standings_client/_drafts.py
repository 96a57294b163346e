"""Submissions on their way: each keeps its id over retries, and gets a new one at most once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

from standings.v1 import ranking_service_pb2 as pb
from standings_client import _codec
from standings_client._ids import SubmissionIds
from standings_client.errors import Internal, StandingsError, SubmissionIdInFuture
from standings_client.types import BatchSubmitResult, Submission, SubmitResult

Sent = TypeVar("Sent", pb.SubmitScoreRequest, pb.DeleteEntryRequest)


@dataclass(slots=True)
class Draft(Generic[Sent]):
    """A submission, or a deletion, as it is sent.

    `minted`: this client made its id. Only then, and only while it was sent once, is it certain
    that nobody recorded it under this id. `epoch`: that of the clock when it was made.
    """

    request: Sent
    minted: bool
    epoch: int

    def remint(self, error: object, sent_count: int, ids: SubmissionIds) -> bool:
        """Whether the submission now has a new id, by the server's clock, and is to be sent again.

        True at most once, and only for an id refused as of the future when it was sent first.
        """
        if not isinstance(error, SubmissionIdInFuture) or error.server_time_ms is None:
            return False
        if not self.minted or sent_count != 1:
            return False
        ids.correct(error.server_time_ms)
        self.request.submission_id = ids.mint()
        self.minted = False
        return True

    def keep_up(self, ids: SubmissionIds) -> None:
        """Makes its id anew if the clock was corrected since. For what was never sent: it would be
        refused after others that came later and have ids of the right clock.
        """
        if self.minted and self.epoch != ids.epoch:
            self.epoch = ids.epoch
            self.request.submission_id = ids.mint()


def draft_of(submission: Submission, ids: SubmissionIds) -> Draft[pb.SubmitScoreRequest]:
    """The submission under its own id, or under a new one where it has none."""
    minted, epoch = submission.submission_id is None, ids.epoch
    submission_id = submission.submission_id or ids.mint()
    return Draft(_codec.submit_request(submission, submission_id), minted, epoch)


def draft_of_deletion(
    board_id: str,
    user_id: int,
    *,
    season_id: str,
    submission_id: str | None,
    ids: SubmissionIds,
) -> Draft[pb.DeleteEntryRequest]:
    """The deletion under its own id, or under a new one where it has none."""
    minted, epoch = submission_id is None, ids.epoch
    request = _codec.delete_entry_request(board_id, user_id, season_id, submission_id or ids.mint())
    return Draft(request, minted, epoch)


class Batch:
    """A batch on its way. Mostly one request; two where ids must be made anew."""

    def __init__(self, submissions: Iterable[Submission], ids: SubmissionIds) -> None:
        self._ids = ids
        self._drafts = [draft_of(submission, ids) for submission in submissions]
        self._results: list[SubmitResult | StandingsError] = [
            Internal("the server answered nothing for this submission") for _ in self._drafts
        ]
        self._open = list(range(len(self._drafts)))
        self._consistency_token = ""

    def request(self) -> pb.BatchSubmitScoresRequest:
        """The submissions still to be answered, in order."""
        return pb.BatchSubmitScoresRequest(
            submissions=[self._drafts[index].request for index in self._open]
        )

    def settle(self, response: pb.BatchSubmitScoresResponse, sent_count: int) -> bool:
        """Takes the answer of `request`; whether some submissions are to be sent once more."""
        self._consistency_token = response.consistency_token or self._consistency_token
        again = []
        # A short answer leaves its rest as it is: errors.
        for index, item in zip(self._open, response.results, strict=False):
            self._results[index] = result = _codec.item_result(item)
            if self._drafts[index].remint(result, sent_count, self._ids):
                again.append(index)
        self._open = again
        return bool(again)

    def fail(self, error: StandingsError) -> None:
        """Ends the submissions still to be answered; those answered before keep their results."""
        for index in self._open:
            self._results[index] = error

    def result(self) -> BatchSubmitResult:
        """What became of each submission, in the order given."""
        return BatchSubmitResult(
            results=tuple(self._results), consistency_token=self._consistency_token
        )
