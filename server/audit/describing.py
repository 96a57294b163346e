"""What the audit is told of each kind of request. Decoded as its servicer decodes it, so that what
is refused for its form is not recorded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, Final

from core.index_operations import IndexOperations
from core.manage_boards import ManageBoards
from core.types import BoardSpec
from resilience.faults import FaultKind
from server.levers.levers import Levers
from server.rpc.call import CallContext
from server.rpc.codec import boards, fields, levers, moderation, operations
from server.rpc.codec.deletions import decode_deletion
from standings.v1 import admin_service_pb2 as admin_pb
from standings.v1 import board_service_pb2 as board_pb
from standings.v1 import moderation_service_pb2 as mod_pb
from standings.v1 import ranking_service_pb2 as pb

_MS_PER_S: Final = 1000
_SOME_ID: Final = "00000000-0000-7000-8000-000000000000"
"""In place of one that is not recorded."""


@dataclass(frozen=True, slots=True)
class Told:
    """What a request is about. `old` and `new` hold values of JSON."""

    target: str
    reason: str
    old: Mapping[str, Any]
    new: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Known:
    """Where it can be found what there is before a change."""

    levers: Levers
    boards: ManageBoards
    operations: IndexOperations


async def set_breaker(request: admin_pb.SetBreakerRequest, call: CallContext, known: Known) -> Told:
    """The breakers that are not left to themselves before it. Raises InvalidInput,
    UnknownBreaker.
    """
    mode, ttl_ms = levers.decode_mode(request)
    note = levers.decode_note(request, call)
    return Told(
        f"breaker/{request.name}",
        note.reason,
        {name: before.name for name, before in known.levers.set_breaker.before(request.name, mode)},
        {"mode": mode.name, "ttl_s": ttl_ms / _MS_PER_S, "set_by": note.actor},
    )


async def inject_fault(
    request: admin_pb.InjectFaultRequest, call: CallContext, known: Known
) -> Told:
    """The fault, and those in force before it. Raises InvalidInput, FaultsDisabled,
    UnknownBreaker.
    """
    fault, ttl_ms = levers.decode_fault(request)
    note = levers.decode_note(request, call)
    targets = known.levers.faults.may_inject(request.target)
    return Told(
        f"fault/{request.target}",
        note.reason,
        _faults(known, targets),
        {
            "kind": fault.kind.name,
            "probability": fault.probability,
            "latency_ms": fault.latency_ms,
            "ttl_s": ttl_ms / _MS_PER_S,
            "set_by": note.actor,
        },
    )


async def clear_faults(
    request: admin_pb.ClearFaultsRequest, _call: CallContext, known: Known
) -> Told:
    """The faults that are to end. Raises UnknownBreaker."""
    target = request.target or "*"
    return Told(f"fault/{target}", "", _faults(known, known.levers.faults.targets(target)), {})


async def verify_shards(
    request: admin_pb.VerifyShardsRequest, _call: CallContext, _known: Known
) -> Told:
    """What is held against PostgreSQL. Raises InvalidInput."""
    board_id, shards = operations.decode_scope(request)
    new = {"shards": sorted(set(shards)), "repair": request.repair}
    return Told(f"index/{board_id or '*'}", "", {}, new)


async def rebuild_shards(
    request: admin_pb.RebuildShardsRequest, _call: CallContext, _known: Known
) -> Told:
    """What is built anew. Raises InvalidInput."""
    board_id, shards = operations.decode_scope(request)
    return Told(f"index/{board_id or '*'}", "", {}, {"shards": sorted(set(shards))})


async def cancel_operation(
    request: admin_pb.CancelOperationRequest, _call: CallContext, known: Known
) -> Told:
    """The operation, and how it is. Raises OperationNotFound."""
    operation = await known.operations.operations.get(request.operation_id)
    old = {"kind": operation.kind.name, "state": operation.state.name}
    return Told(f"operation/{operation.operation_id}", "", old, {})


async def create_board(
    request: board_pb.CreateBoardRequest, _call: CallContext, _known: Known
) -> Told:
    """The definition. Raises InvalidInput."""
    spec = boards.decode_new_board(request)
    return Told(f"board/{spec.board_id}", "", {}, _plain(asdict(spec)))


async def update_board(
    request: board_pb.UpdateBoardRequest, _call: CallContext, known: Known
) -> Told:
    """What is to change, and what it was. Raises InvalidInput, BoardNotFound, LedgerUnavailable."""
    board_id = boards.decode_board_id(request)
    boards.decode_etag(request.board.etag, "board.etag")
    changes = boards.decode_changes(request)
    before = asdict((await known.boards.get(board_id)).spec)
    old = {name: before[name] for name in changes}
    return Told(f"board/{board_id}", "", _plain(old), _plain(changes))


async def delete_board(
    request: board_pb.DeleteBoardRequest, _call: CallContext, known: Known
) -> Told:
    """The definition that goes. Raises InvalidInput, BoardNotFound, LedgerUnavailable."""
    board_id = fields.board_id(request.board_id)
    boards.decode_etag(request.etag, "etag")
    spec: BoardSpec = (await known.boards.get(board_id)).spec
    return Told(f"board/{board_id}", "", _plain(asdict(spec)), {})


async def delete_entry(request: pb.DeleteEntryRequest, _call: CallContext, _known: Known) -> Told:
    """Whose entry, where. Not under which id, by which an anonymized user would be found. Raises
    InvalidInput.
    """
    board_id, user_id, season_id, _, _ = decode_deletion(request, lambda: _SOME_ID)
    return Told(f"board/{board_id}/user/{user_id}", "", {}, {"season_id": season_id})


async def hide_user(
    request: mod_pb.HideUserRequest | mod_pb.RestoreUserRequest, _call: CallContext, _known: Known
) -> Told:
    """Who, and where: for hiding and for restoring. Raises InvalidInput."""
    user_id, board_id = moderation.decode_scope(request)
    reason = moderation.decode_reason(request.reason)
    return Told(
        f"board/{board_id}/user/{user_id}" if board_id else f"user/{user_id}", reason, {}, {}
    )


async def delete_user(request: mod_pb.DeleteUserRequest, _call: CallContext, _known: Known) -> Told:
    """Who, by the number alone, which is all that may stay. Raises InvalidInput."""
    user_id = fields.user_id(request.user_id)
    erasure = moderation.decode_erasure(request)
    reason = moderation.decode_reason(request.reason)
    return Told(f"user/{user_id}", reason, {}, {"erasure": erasure.name})


def begun_operation(
    answer: admin_pb.VerifyShardsResponse | admin_pb.RebuildShardsResponse,
) -> Mapping[str, Any]:
    """Which operation does it."""
    return {"operation_id": answer.operation.operation_id}


def hidden(answer: mod_pb.HideUserResponse | mod_pb.RestoreUserResponse) -> Mapping[str, Any]:
    """Whether it changed anything. Not how much, which would tell of a user who is deleted."""
    return {"changed": answer.changed}


def board_made(
    answer: board_pb.CreateBoardResponse | board_pb.UpdateBoardResponse,
) -> Mapping[str, Any]:
    """Which version of the definition it is."""
    return {"etag": answer.board.etag}


def set_done(answer: admin_pb.SetBreakerResponse) -> Mapping[str, Any]:
    """Which workers act on it."""
    return {
        "acknowledged_workers": list(answer.acknowledged_workers),
        "laggard_workers": list(answer.laggard_workers),
    }


def _faults(known: Known, targets: Sequence[str]) -> Mapping[str, Any]:
    in_force = known.levers.faults.in_force()
    return {name: FaultKind(in_force[name].kind).name for name in targets if name in in_force}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of JSON. Of metadata, which may be long, only a digest: whether it changed."""
    plain = {}
    for name, value in values.items():
        if name == "metadata" and value is not None:
            plain[name] = "sha256:" + hashlib.sha256(value.encode()).hexdigest()
        else:
            plain[name] = value.name if isinstance(value, Enum) else value
    return plain
