"""Deletions of entries in, what became of them out."""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from core.delete_entry import EntryDeleted
from server.rpc.codec import fields
from server.rpc.codec.entries import put_standing
from server.rpc.codec.submissions import NewSubmissionId, decode_submission_id
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2 as types_pb

_DIGEST_HEAD: Final = struct.Struct(">6sqBB")
"""A word that no submission begins with, user_id, and the lengths of board_id and season_id."""


def decode_deletion(
    request: pb.DeleteEntryRequest, new_id: NewSubmissionId
) -> tuple[str, int, str, str, bytes]:
    """Board, user, season, the deletion's id, and the digest of what it asks for."""
    board_id = fields.board_id(request.board_id)
    user_id = fields.user_id(request.user_id)
    season_id = fields.season_id(request.season_id, "season_id")
    submission_id = decode_submission_id(request.submission_id, new_id)
    head = _DIGEST_HEAD.pack(b"delete", user_id, len(board_id), len(season_id))
    digest = hashlib.sha256(head + board_id.encode() + season_id.encode()).digest()
    return board_id, user_id, season_id, submission_id, digest


def encode_deletion(done: EntryDeleted) -> pb.DeleteEntryResponse:
    """What became of a deletion."""
    response = pb.DeleteEntryResponse(
        outcome=types_pb.Outcome.ValueType(done.outcome),
        indexed=done.indexed,
        consistency_token=done.consistency_token,
        submission_id=done.submission_id,
    )
    if done.deleted is not None:
        put_standing(response.deleted_entry, done.deleted)
    return response
