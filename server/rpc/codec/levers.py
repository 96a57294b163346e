"""Breakers and faults: what is asked in, how they are out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from core.errors import InvalidInput
from core.types import AuditNote
from resilience.faults import Fault, FaultKind
from resilience.machine_slots import Setting
from resilience.overrides import Mode
from server.identity.identity import ANONYMOUS
from server.levers.views import BreakersSet, BreakerView, WorkerView
from server.rpc.call import CallContext, actor_of
from server.rpc.codec import fields
from standings.v1 import admin_service_pb2 as pb

REASON_CHARS_MIN: Final = 8
REASON_CHARS_MAX: Final = 200
ACTOR_CHARS_MAX: Final = 64

_MODES: Final = {mode.value: mode for mode in Mode}
_KINDS: Final = {kind.value: kind for kind in FaultKind}
_SECOND_MS: Final = 1000
_MODE_TTL_MS: Final = (_SECOND_MS, 24 * 3600 * _SECOND_MS, 15 * 60 * _SECOND_MS)
"""Least, most, and unset."""
_FAULT_TTL_MS: Final = (_SECOND_MS, 600 * _SECOND_MS, 60 * _SECOND_MS)
_LATENCY_MS: Final = (1, 10 * _SECOND_MS)
_NANOS_PER_S: Final = 10**9
_NANOS_PER_MS: Final = 10**6


def decode_mode(request: pb.SetBreakerRequest) -> tuple[Mode, int]:
    """The mode, and for how many ms; 0 for AUTO, which does not end."""
    mode = fields.known(_MODES, request.mode, "mode")
    if mode is not Mode.AUTO:
        return mode, _ttl_ms(request, *_MODE_TTL_MS)
    if request.HasField("ttl"):
        raise InvalidInput("ttl", "must not be set with BREAKER_MODE_AUTO, which does not end")
    return mode, 0


def decode_fault(request: pb.InjectFaultRequest) -> tuple[Fault, int]:
    """The fault, and for how many ms."""
    kind = fields.known(_KINDS, request.kind, "kind")
    probability = request.probability if request.HasField("probability") else 1.0
    if not 0 < probability <= 1:
        raise InvalidInput("probability", "must be above 0, to 1")
    return Fault(kind, probability, _latency_ms(kind, request)), _ttl_ms(request, *_FAULT_TTL_MS)


def decode_note(
    request: pb.SetBreakerRequest | pb.InjectFaultRequest, call: CallContext
) -> AuditNote:
    """Who and why. Where callers are asked who they are, that is who; else whoever is named, or
    where the call came from.
    """
    reason, actor = request.reason, request.actor
    if not REASON_CHARS_MIN <= len(reason) <= REASON_CHARS_MAX or not fields.is_plain_text(reason):
        raise InvalidInput(
            "reason",
            f"must be {REASON_CHARS_MIN} to {REASON_CHARS_MAX} characters without control"
            " characters",
        )
    if len(actor) > ACTOR_CHARS_MAX or not fields.is_plain_text(actor):
        raise InvalidInput(
            "actor", f"must be at most {ACTOR_CHARS_MAX} characters without control characters"
        )
    if call.identity is not ANONYMOUS:
        actor = ""
    return AuditNote(actor or actor_of(call)[:ACTOR_CHARS_MAX], reason, call.request_id)


def encode_breaker(view: BreakerView) -> pb.Breaker:
    """One breaker."""
    setting = view.setting
    return pb.Breaker(
        name=view.name,
        state=pb.BreakerState.ValueType(view.state),
        mode=pb.BreakerMode.ValueType(view.mode),
        failure_rate=view.failure_rate,
        slow_call_rate=view.slow_rate,
        open_until=_moment(view.open_until_ms),
        override=None if setting is None else _override(setting),
        workers=map(_worker, view.workers),
    )


def encode_set(done: BreakersSet) -> pb.SetBreakerResponse:
    """What became of a setting."""
    return pb.SetBreakerResponse(
        breakers=map(encode_breaker, done.breakers),
        acknowledged_workers=done.acknowledged,
        laggard_workers=done.laggards,
    )


def encode_faults(faults: Mapping[str, Setting]) -> Sequence[pb.Fault]:
    """Faults, by target."""
    return [_fault(target, faults[target]) for target in sorted(faults)]


def _override(setting: Setting) -> pb.BreakerOverride:
    return pb.BreakerOverride(
        mode=pb.BreakerMode.ValueType(setting.kind),
        reason=setting.reason,
        actor=setting.actor,
        expire_time=fields.timestamp(setting.expire_time_ms),
    )


def _worker(view: WorkerView) -> pb.WorkerBreaker:
    return pb.WorkerBreaker(
        worker=view.worker,
        pid=view.pid,
        state=pb.BreakerState.ValueType(view.state),
        failure_rate=view.failure_rate,
        slow_call_rate=view.slow_rate,
        open_until=_moment(view.open_until_ms),
    )


def _fault(target: str, setting: Setting) -> pb.Fault:
    latency = fields.duration(setting.latency_ms) if setting.latency_ms else None
    return pb.Fault(
        target=target,
        kind=pb.FaultKind.ValueType(setting.kind),
        probability=setting.probability,
        latency=latency,
        reason=setting.reason,
        actor=setting.actor,
        expire_time=fields.timestamp(setting.expire_time_ms),
    )


def _moment(time_ms: int | None) -> Timestamp | None:
    return None if time_ms is None else fields.timestamp(time_ms)


def _ttl_ms(
    request: pb.SetBreakerRequest | pb.InjectFaultRequest, least: int, most: int, unset: int
) -> int:
    if not request.HasField("ttl"):
        return unset
    ttl_ms = _span_ms(request.ttl)
    if ttl_ms is None or not least <= ttl_ms <= most:
        raise InvalidInput("ttl", f"must be {least // _SECOND_MS} s to {most // _SECOND_MS} s")
    return ttl_ms


def _latency_ms(kind: FaultKind, request: pb.InjectFaultRequest) -> int:
    if kind is not FaultKind.LATENCY:
        if request.HasField("latency"):
            raise InvalidInput("latency", "must not be set with this kind")
        return 0
    least, most = _LATENCY_MS
    latency_ms = _span_ms(request.latency)
    if latency_ms is None or not least <= latency_ms <= most:
        raise InvalidInput("latency", f"must be {least} ms to {most} ms")
    return latency_ms


def _span_ms(span: Duration) -> int | None:
    """A span in whole ms; None where it is negative or not well formed."""
    if span.seconds < 0 or not 0 <= span.nanos < _NANOS_PER_S:
        return None
    return span.seconds * _SECOND_MS + span.nanos // _NANOS_PER_MS
