"""Boards and submissions for tests, with everything that a test does not care about filled in."""

import hashlib
import secrets
import time
import uuid

from core.types import BoardSpec, Operator, SortOrder, Submission


def submission_id(*, at_ms: int | None = None) -> str:
    """A new UUIDv7, of a given time if wanted."""
    moment = time.time_ns() // 1_000_000 if at_ms is None else at_ms
    value = moment << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0x2 << 62
    return str(uuid.UUID(int=value | secrets.randbits(62)))


def board_spec(
    board_id: str = "board",
    *,
    sort_order: SortOrder = SortOrder.DESCENDING,
    subscore_sort_order: SortOrder = SortOrder.DESCENDING,
    operator: Operator = Operator.BEST,
    min_score: int | None = None,
    max_score: int | None = None,
) -> BoardSpec:
    """A definition."""
    return BoardSpec(
        board_id=board_id,
        title="",
        sort_order=sort_order,
        subscore_sort_order=subscore_sort_order,
        operator=operator,
        min_score=min_score,
        max_score=max_score,
        client_writes=False,
        metadata=None,
    )


def submission(
    user_id: int,
    score: int,
    subscore: int = 0,
    *,
    operator: Operator | None = None,
    id: str | None = None,  # noqa: A002  # the word of the tests
    board_id: str = "board",
    metadata: str | None = None,
) -> Submission:
    """A submission with a digest of its content."""
    content = repr((board_id, user_id, score, subscore, operator, metadata)).encode()
    return Submission(
        submission_id=id or submission_id(),
        board_id=board_id,
        user_id=user_id,
        score=score,
        subscore=subscore,
        operator=operator,
        metadata=metadata,
        digest=hashlib.sha256(content).digest(),
    )
