"""The audit: what is asked of it in, what was recorded out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from core.audit_lines import time_ms_of, time_text
from core.audit_ports import AuditEvent, AuditFilter
from core.errors import InvalidInput
from core.list_audit_events import AuditPage
from server.rpc.codec import fields
from standings.v1 import admin_service_pb2 as pb

PAGE_SIZE_DEFAULT: Final = 100
_TEXT_CHARS_MAX: Final = 256
_SECONDS_MAX: Final = 253_402_300_799
"""The end of the year 9999."""
_NANOS_PER_S: Final = 10**9
_EXACT_MAX: Final = 2**53
"""The numbers of a Struct are doubles."""


def decode_filter(request: pb.ListAuditEventsRequest) -> AuditFilter:
    """Which events are asked for."""
    return AuditFilter(
        since=_time(request.start_time, "start_time") if request.HasField("start_time") else "",
        until=_time(request.end_time, "end_time") if request.HasField("end_time") else "",
        actor=_text(request.actor, "actor"),
        method=_text(request.method, "method"),
        target=_text(request.target, "target"),
    )


def encode_page(page: AuditPage) -> pb.ListAuditEventsResponse:
    """A page of events."""
    return pb.ListAuditEventsResponse(
        events=map(_event, page.events),
        next_page_token=page.next_page_token,
        source=pb.AUDIT_SOURCE_FILE if page.from_file else pb.AUDIT_SOURCE_DATABASE,
    )


def _event(event: AuditEvent) -> pb.AuditEvent:
    content, outcome = event.action.content, event.outcome
    return pb.AuditEvent(
        chain=event.action.chain,
        sequence=event.action.sequence,
        time=fields.timestamp(time_ms_of(event.action.time)),
        actor=content["actor"],
        peer=content["peer"],
        method=content["method"],
        target=content["target"],
        reason=content["reason"],
        request_id=content["request_id"],
        old_values=_struct(content["old"]),
        new_values=_struct(content["new"]),
        status="" if outcome is None else outcome.content["status"],
        end_time=None if outcome is None else fields.timestamp(time_ms_of(outcome.time)),
        result=None if outcome is None else _struct(outcome.content["result"]),
        hash=event.action.hash,
    )


def _struct(values: Mapping[str, Any]) -> Struct:
    struct = Struct()
    struct.update({name: _value(value) for name, value in values.items()})
    return struct


def _value(value: Any) -> Any:  # noqa: ANN401
    """A value of JSON as a Struct can hold it; a number that a double cannot hold as its digits."""
    if isinstance(value, int) and abs(value) > _EXACT_MAX:
        return str(value)
    return value


def _time(moment: Timestamp, field: str) -> str:
    if not 0 <= moment.seconds <= _SECONDS_MAX or not 0 <= moment.nanos < _NANOS_PER_S:
        raise InvalidInput(field, "must be a time from 1970 to 9999")
    return time_text(moment.seconds * 1000 + moment.nanos // 10**6)


def _text(text: str, field: str) -> str:
    if len(text) > _TEXT_CHARS_MAX or not fields.is_plain_text(text):
        raise InvalidInput(
            field, f"must be at most {_TEXT_CHARS_MAX} characters without control characters"
        )
    return text
