"""Users off the boards."""

from __future__ import annotations

import grpc

from standings.v1 import moderation_service_pb2 as pb
from standings.v1 import moderation_service_pb2_grpc as pb_grpc
from standings_client import _moderation
from standings_client.sync.calls import Calls
from standings_client.types import Erasure, UserDeleted, UserHidden, UserRestored


class Moderation:
    """Hides, restores and deletes users; `client.moderation`.

    `reason` goes into the audit, with at most 512 characters. Every call may be repeated.
    """

    def __init__(self, channel: grpc.Channel, calls: Calls) -> None:
        self._stub = pb_grpc.ModerationServiceStub(channel)
        self._calls = calls

    def hide_user(
        self, user_id: int, *, board_id: str = "", reason: str = "", timeout_s: float | None = None
    ) -> UserHidden:
        """Hides a user's entries on one board, or everywhere, from everybody else.

        The user may go on playing, and sees a rank by `viewer_user_id`. A retry of a hiding that
        was done already tells `changed` False. Raises BoardNotFound.
        """
        attempts = self._calls.begin(timeout_s)
        request = pb.HideUserRequest(user_id=user_id, board_id=board_id, reason=reason)
        return _moderation.user_hidden(self._calls.run(self._stub.HideUser, request, attempts))

    def restore_user(
        self, user_id: int, *, board_id: str = "", reason: str = "", timeout_s: float | None = None
    ) -> UserRestored:
        """Takes back one hide_user: that of the same board, or that of everywhere.

        Nothing that was submitted in between is lost. Raises BoardNotFound.
        """
        attempts = self._calls.begin(timeout_s)
        request = pb.RestoreUserRequest(user_id=user_id, board_id=board_id, reason=reason)
        return _moderation.user_restored(self._calls.run(self._stub.RestoreUser, request, attempts))

    def delete_user(
        self,
        user_id: int,
        *,
        erasure: Erasure = Erasure.ERASE,
        reason: str = "",
        timeout_s: float | None = None,
    ) -> UserDeleted:
        """Erases a user from every board and season; not to be undone.

        The entries are gone with the answer, the submissions follow within minutes: call again
        until `done`. Meanwhile a submission of the user raises UserBeingDeleted.
        """
        attempts = self._calls.begin(timeout_s)
        request = _moderation.delete_user_request(user_id, erasure, reason)
        return _moderation.user_deleted(self._calls.run(self._stub.DeleteUser, request, attempts))
