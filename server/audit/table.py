"""Which methods are audited. One without a row stops the start: whoever adds it has to say."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from server.audit import describing
from server.audit.describing import Known, Told
from server.rpc.call import CallContext

Describe: TypeAlias = Callable[[Any, CallContext, Known], Awaitable[Told]]


def _nothing(_answer: object) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Audited:
    """How a method is recorded: what `describe` tells of a request before it is done, and `result`
    of its answer.
    """

    describe: Describe
    result: Callable[[Any], Mapping[str, Any]] = _nothing


NOT_AUDITED: Final = None
"""It reads, or it is a game's own business."""

_RANKING: Final = "/standings.v1.RankingService/"
_BOARDS: Final = "/standings.v1.BoardService/"
_MODERATION: Final = "/standings.v1.ModerationService/"
_ADMIN: Final = "/standings.v1.AdminService/"

AUDIT: Final[Mapping[str, Audited | None]] = {
    _RANKING + "SubmitScore": NOT_AUDITED,
    _RANKING + "BatchSubmitScores": NOT_AUDITED,
    _RANKING + "StreamSubmitScores": NOT_AUDITED,
    _RANKING + "GetEntry": NOT_AUDITED,
    _RANKING + "BatchGetEntries": NOT_AUDITED,
    _RANKING + "ListEntries": NOT_AUDITED,
    _RANKING + "ListEntriesAround": NOT_AUDITED,
    _RANKING + "EstimateRank": NOT_AUDITED,
    _RANKING + "GetPercentile": NOT_AUDITED,
    _RANKING + "WatchEntries": NOT_AUDITED,
    _RANKING + "DeleteEntry": Audited(describing.delete_entry),
    _BOARDS + "CreateBoard": Audited(describing.create_board, describing.board_made),
    _BOARDS + "GetBoard": NOT_AUDITED,
    _BOARDS + "ListBoards": NOT_AUDITED,
    _BOARDS + "UpdateBoard": Audited(describing.update_board, describing.board_made),
    _BOARDS + "DeleteBoard": Audited(describing.delete_board),
    _MODERATION + "HideUser": Audited(describing.hide_user, describing.hidden),
    _MODERATION + "RestoreUser": Audited(describing.hide_user, describing.hidden),
    _MODERATION + "DeleteUser": Audited(describing.delete_user),
    _ADMIN + "ListShards": NOT_AUDITED,
    _ADMIN + "ListBreakers": NOT_AUDITED,
    _ADMIN + "SetBreaker": Audited(describing.set_breaker, describing.set_done),
    _ADMIN + "WatchBreakers": NOT_AUDITED,
    _ADMIN + "VerifyShards": Audited(describing.verify_shards, describing.begun_operation),
    _ADMIN + "RebuildShards": Audited(describing.rebuild_shards, describing.begun_operation),
    _ADMIN + "GetOperation": NOT_AUDITED,
    _ADMIN + "ListOperations": NOT_AUDITED,
    _ADMIN + "CancelOperation": Audited(describing.cancel_operation),
    _ADMIN + "InjectFault": Audited(describing.inject_fault),
    _ADMIN + "ListFaults": NOT_AUDITED,
    _ADMIN + "ClearFaults": Audited(describing.clear_faults),
    _ADMIN + "ListAuditEvents": NOT_AUDITED,
    "/grpc.health.v1.Health/Check": NOT_AUDITED,
    "/grpc.health.v1.Health/List": NOT_AUDITED,
    "/grpc.health.v1.Health/Watch": NOT_AUDITED,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": NOT_AUDITED,
}
