"""Users off the boards: what is asked in, what was done out."""

from __future__ import annotations

from typing import Final

from core.errors import InvalidInput
from core.moderate_users import UserDeleted, UserHidden, UserRestored
from core.types import Erasure
from server.rpc.codec import fields
from standings.v1 import moderation_service_pb2 as pb

REASON_CHARS_MAX: Final = 512

_ERASURES: Final = fields.words_of(Erasure, default=Erasure.ERASE)


def decode_scope(request: pb.HideUserRequest | pb.RestoreUserRequest) -> tuple[int, str]:
    """The user and the board; no board: everywhere."""
    board_id = fields.board_id(request.board_id) if request.board_id else ""
    return fields.user_id(request.user_id), board_id


def decode_erasure(request: pb.DeleteUserRequest) -> Erasure:
    """What is done with the submissions."""
    return fields.known(_ERASURES, request.erasure, "erasure")


def decode_reason(reason: str) -> str:
    """Why, for the audit."""
    if len(reason) > REASON_CHARS_MAX or not fields.is_plain_text(reason):
        raise InvalidInput(
            "reason", f"must be at most {REASON_CHARS_MAX} characters without control characters"
        )
    return reason


def encode_hidden(done: UserHidden) -> pb.HideUserResponse:
    """What became of a hiding."""
    return pb.HideUserResponse(
        changed=done.changed,
        entry_count=done.entry_count,
        indexed=done.indexed,
        consistency_token=done.consistency_token,
    )


def encode_restored(done: UserRestored) -> pb.RestoreUserResponse:
    """What became of a restoration."""
    return pb.RestoreUserResponse(
        changed=done.changed,
        entry_count=done.entry_count,
        still_hidden=done.still_hidden,
        indexed=done.indexed,
        consistency_token=done.consistency_token,
    )


def encode_deleted(done: UserDeleted) -> pb.DeleteUserResponse:
    """How far a deletion is."""
    complete_ms = done.complete_time_ms
    return pb.DeleteUserResponse(
        erasure=pb.Erasure.ValueType(done.erasure),
        deleted_entry_count=done.deleted_entry_count,
        erased_submission_count=done.erased_submission_count,
        done=complete_ms is not None,
        create_time=fields.timestamp(done.create_time_ms),
        complete_time=None if complete_ms is None else fields.timestamp(complete_ms),
        indexed=done.indexed,
        consistency_token=done.consistency_token,
    )
