"""Score events in, outcomes out."""

from __future__ import annotations

import hashlib
import re
import struct
from collections.abc import Callable, Sequence
from typing import Final

from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

from core.errors import ClientWritesRefused, InvalidInput, StandingsError
from core.submit_scores import SubmitResults
from core.types import Operator, Submission, SubmitResult
from server.identity.identity import ANONYMOUS, Identity
from server.identity.scope import scope_of
from server.rpc.codec import fields
from server.rpc.codec.entries import put_standing
from server.rpc.codec.metadata import ENTRY_BYTES_MAX, decode_metadata
from server.rpc.status import to_status_proto
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

BATCH_COUNT_MAX: Final = 1000

_OPERATORS: Final = {0: None, **{operator.value: operator for operator in Operator}}
_UUID7: Final = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)
_DIGEST_HEAD: Final = struct.Struct(">qqqBB")
"""user_id, score, subscore, operator as requested (0: none), length of board_id."""

_SCOPE: Final = scope_of(pb.SubmitScoreRequest)

NewSubmissionId = Callable[[], str]


def decode_submission(
    request: pb.SubmitScoreRequest, new_id: NewSubmissionId, caller: Identity = ANONYMOUS
) -> Submission:
    """A checked submission; `new_id` makes a UUIDv7 where the caller sent none."""
    board_id = fields.board_id(request.board_id)
    user_id = fields.user_id(request.user_id)
    if not request.HasField("score"):
        raise InvalidInput("score", "is required")
    submission_id = decode_submission_id(request.submission_id, new_id)
    if request.operator not in _OPERATORS:
        raise InvalidInput("operator", f"{request.operator} is not a value of this enum")
    operator = _OPERATORS[request.operator]
    by_player = caller.user_id is not None
    if by_player and operator is not None:
        raise ClientWritesRefused("players may not choose the operator")
    metadata = None
    if request.HasField("metadata"):
        metadata = decode_metadata(request.metadata, "metadata", bytes_max=ENTRY_BYTES_MAX)
    return Submission(
        submission_id=submission_id,
        board_id=board_id,
        user_id=user_id,
        score=request.score,
        subscore=request.subscore,
        operator=operator,
        metadata=metadata,
        digest=_digest(board_id, user_id, request, metadata),
        return_rank=request.return_rank,
        by_player=by_player,
    )


def decode_submission_id(value: str, new_id: NewSubmissionId) -> str:
    """The caller's UUIDv7 in canonical text, or a new one where there is none."""
    if not value:
        return new_id()
    # re.ASCII is not needed: IGNORECASE adds no other letter to a-f.
    if _UUID7.fullmatch(value) is None:
        raise InvalidInput("submission_id", "must be a UUIDv7 in its text form, or empty")
    return value.lower()


def decode_submissions(
    requests: Sequence[pb.SubmitScoreRequest],
    new_id: NewSubmissionId,
    caller: Identity = ANONYMOUS,
) -> list[Submission | StandingsError]:
    """The items of an envelope, same length and order; an item that is malformed, or not its
    caller's, is its own error.

    Raises InvalidInput when the envelope itself is malformed.
    """
    if not 1 <= len(requests) <= BATCH_COUNT_MAX:
        raise InvalidInput("submissions", f"must be 1 to {BATCH_COUNT_MAX} items")
    return [_decode_item(request, new_id, caller) for request in requests]


def put_submit_result(
    response: pb.SubmitScoreResponse, result: SubmitResult, consistency_token: str = ""
) -> None:
    """Fills in what became of one submission; in an envelope, its token is around it."""
    recorded = result.recorded
    response.outcome = types_pb.Outcome.ValueType(recorded.outcome)
    response.first_outcome = types_pb.Outcome.ValueType(recorded.first_outcome)
    response.indexed = result.indexed
    response.consistency_token = consistency_token
    response.submission_id = recorded.submission_id
    if recorded.entry is not None:
        put_standing(response.entry, recorded.entry, rank=result.rank or 0)
    if recorded.previous is not None:
        put_standing(response.previous_entry, recorded.previous)


def encode_submit_result(
    result: SubmitResult, consistency_token: str = ""
) -> pb.SubmitScoreResponse:
    """What became of one submission, by itself."""
    response = pb.SubmitScoreResponse()
    put_submit_result(response, result, consistency_token)
    return response


def put_submit_results(
    results: RepeatedCompositeFieldContainer[pb.BatchSubmitResult], done: SubmitResults
) -> None:
    """Fills in what became of the items of an envelope, in their order."""
    for index, result in enumerate(done.results):
        item = results.add()
        if isinstance(result, StandingsError):
            item.error.CopyFrom(to_status_proto(result, within=f"submissions[{index}]."))
        else:
            put_submit_result(item.response, result)


def _decode_item(
    request: pb.SubmitScoreRequest, new_id: NewSubmissionId, caller: Identity
) -> Submission | StandingsError:
    try:
        if caller is not ANONYMOUS:
            _SCOPE.check(caller, request)
        return decode_submission(request, new_id, caller)
    except StandingsError as error:
        return error


def _digest(
    board_id: str, user_id: int, request: pb.SubmitScoreRequest, metadata: str | None
) -> bytes:
    """SHA-256 of the content. Unambiguous: a head of fixed length, a board_id of the length said
    there, and the metadata, never empty when there is one.
    """
    name = board_id.encode()
    head = _DIGEST_HEAD.pack(user_id, request.score, request.subscore, request.operator, len(name))
    return hashlib.sha256(head + name + (metadata or "").encode()).digest()
