"""What was recorded: decode, call the use case, encode."""

from __future__ import annotations

from core.list_audit_events import ListAuditEvents
from server.rpc.call import CallContext
from server.rpc.codec import audit as codec
from server.rpc.codec import fields
from standings.v1 import admin_service_pb2 as pb


class AuditMethods:
    """The part of standings.v1.AdminService that is about the audit."""

    all_audit_events: ListAuditEvents

    async def list_audit_events(
        self, request: pb.ListAuditEventsRequest, _call: CallContext
    ) -> pb.ListAuditEventsResponse:
        """A page of the audit."""
        page = await self.all_audit_events(
            codec.decode_filter(request),
            page_size=fields.page_size(request.page_size, default=codec.PAGE_SIZE_DEFAULT),
            page_token=fields.token(request.page_token, "page_token"),
        )
        return codec.encode_page(page)
