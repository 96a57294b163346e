"""Users off the boards: decode, call the use case, encode."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from core.moderate_users import ModerateUsers
from server.rpc.call import CallContext
from server.rpc.codec import fields, moderation
from standings.v1 import moderation_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class ModerationServicer:
    """Answers standings.v1.ModerationService. The reasons are for the audit, which has taken them
    before.
    """

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["ModerationService"]

    users: ModerateUsers

    async def hide_user(
        self, request: pb.HideUserRequest, _call: CallContext
    ) -> pb.HideUserResponse:
        """Hides a user's entries from everybody else."""
        user_id, board_id = moderation.decode_scope(request)
        return moderation.encode_hidden(await self.users.hide(user_id, board_id))

    async def restore_user(
        self, request: pb.RestoreUserRequest, _call: CallContext
    ) -> pb.RestoreUserResponse:
        """Takes back one hiding."""
        user_id, board_id = moderation.decode_scope(request)
        return moderation.encode_restored(await self.users.restore(user_id, board_id))

    async def delete_user(
        self, request: pb.DeleteUserRequest, _call: CallContext
    ) -> pb.DeleteUserResponse:
        """Erases a user, or tells how far that is."""
        user_id = fields.user_id(request.user_id)
        erasure = moderation.decode_erasure(request)
        return moderation.encode_deleted(await self.users.delete(user_id, erasure))
