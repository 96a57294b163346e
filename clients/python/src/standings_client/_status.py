"""From what gRPC says of a failure to the client's own errors. Pure: reads trailers, sends nothing.

Source: google/rpc/error_details.proto; gRFC A6 for the pushback trailer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, Protocol, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from standings_client.errors import ErrorDetails, FieldViolation, StandingsError, error_of

ERROR_DOMAIN: Final = "standings"
DETAILS_TRAILER: Final = "grpc-status-details-bin"
PUSHBACK_TRAILER: Final = "grpc-retry-pushback-ms"
REQUEST_ID_TRAILER: Final = "x-request-id"

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


class _Failed(Protocol):
    """What the errors of grpc and grpc.aio have in common; their nearest common type says less."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def error_from_rpc(error: grpc.RpcError) -> StandingsError:
    """The error of a failed call, from its status and trailers."""
    failed = cast("_Failed", error)
    # By iteration, since what older grpc.aio gives has `keys` that dict() cannot use.
    trailers = dict(iter(failed.trailing_metadata() or ()))
    status = _status_in(trailers)
    details = _details(status, trailers)
    return error_of(failed.code(), failed.details() or "", details)


def error_from_status(status: status_pb2.Status) -> StandingsError:
    """The error of one item of a batch."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    return error_of(code, status.message, _details(status, {}))


def _status_in(trailers: dict[str, str | bytes]) -> status_pb2.Status:
    raw = trailers.get(DETAILS_TRAILER, b"")
    try:
        return status_pb2.Status.FromString(raw if isinstance(raw, bytes) else raw.encode())
    except DecodeError:
        # A proxy may spoil the details; the code and the message still stand.
        return status_pb2.Status()


def _details(status: status_pb2.Status, trailers: dict[str, str | bytes]) -> ErrorDetails:
    info = error_details_pb2.ErrorInfo()
    bad_request = error_details_pb2.BadRequest()
    retry = error_details_pb2.RetryInfo()
    request = error_details_pb2.RequestInfo()
    for packed in status.details:
        for detail in (info, bad_request, retry, request):
            packed.Unpack(detail)
    known = info.domain == ERROR_DOMAIN
    retry_after_s, retry_refused = _pushback(retry, trailers)
    return ErrorDetails(
        reason=info.reason if known else "",
        metadata=dict(info.metadata) if known else {},
        violations=tuple(
            FieldViolation(violation.field, violation.description)
            for violation in bad_request.field_violations
        ),
        request_id=request.request_id
        or info.metadata.get("request_id", "")
        or str(trailers.get(REQUEST_ID_TRAILER, "")),
        retry_after_s=retry_after_s,
        retry_refused=retry_refused,
    )


def _pushback(
    retry: error_details_pb2.RetryInfo, trailers: dict[str, str | bytes]
) -> tuple[float | None, bool]:
    """(seconds the server asks to wait, whether it refuses a retry); its trailer wins."""
    told = trailers.get(PUSHBACK_TRAILER)
    if told is not None:
        text = str(told)
        # Negative or unreadable means: do not retry (gRFC A6).
        return (int(text) / 1000, False) if text.isascii() and text.isdigit() else (None, True)
    if retry.HasField("retry_delay"):
        return max(retry.retry_delay.ToTimedelta().total_seconds(), 0.0), False
    return None, False
