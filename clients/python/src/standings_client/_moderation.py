"""What became of a moderation, between the client's values and the contract. Pure."""

from __future__ import annotations

from standings.v1 import moderation_service_pb2 as pb
from standings_client import _codec
from standings_client.types import Erasure, UserDeleted, UserHidden, UserRestored


def delete_user_request(user_id: int, erasure: Erasure, reason: str) -> pb.DeleteUserRequest:
    """Asks to delete a user."""
    return pb.DeleteUserRequest(
        user_id=user_id, erasure=pb.Erasure.ValueType(erasure), reason=reason
    )


def user_hidden(response: pb.HideUserResponse) -> UserHidden:
    """What became of a hiding."""
    return UserHidden(
        changed=response.changed,
        entry_count=response.entry_count,
        indexed=response.indexed,
        consistency_token=response.consistency_token,
    )


def user_restored(response: pb.RestoreUserResponse) -> UserRestored:
    """What became of a restoration."""
    return UserRestored(
        changed=response.changed,
        entry_count=response.entry_count,
        still_hidden=response.still_hidden,
        indexed=response.indexed,
        consistency_token=response.consistency_token,
    )


def user_deleted(response: pb.DeleteUserResponse) -> UserDeleted:
    """How far a deletion is."""
    created, complete = response.HasField("create_time"), response.HasField("complete_time")
    return UserDeleted(
        erasure=Erasure(response.erasure),
        deleted_entry_count=response.deleted_entry_count,
        erased_submission_count=response.erased_submission_count,
        done=response.done,
        create_time=_codec.time_value(response.create_time) if created else None,
        complete_time=_codec.time_value(response.complete_time) if complete else None,
        indexed=response.indexed,
        consistency_token=response.consistency_token,
    )
