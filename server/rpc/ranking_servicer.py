"""Scores in, ranks out: decode, call the use case, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from core.batch_get_entries import BatchGetEntries
from core.errors import StandingsError
from core.get_entry import GetEntry
from core.list_entries import ListEntries
from core.submit_scores import SubmitScores
from server.drain import Drain
from server.rpc.call import CallContext
from server.rpc.codec import entries, fields, submissions
from server.rpc.stream_submit import SubmitStream
from standings.v1 import ranking_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class RankingServicer:
    """Answers standings.v1.RankingService."""

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["RankingService"]

    submit_scores: SubmitScores
    get_entry_of: GetEntry
    batch_get: BatchGetEntries
    list_page: ListEntries
    new_submission_id: Callable[[], str]
    drain: Drain

    async def submit_score(
        self, request: pb.SubmitScoreRequest, _call: CallContext
    ) -> pb.SubmitScoreResponse:
        """Records one score; its error is the call's."""
        submission = submissions.decode_submission(request, self.new_submission_id)
        done = await self.submit_scores([submission])
        (result,) = done.results
        if isinstance(result, StandingsError):
            raise result
        return submissions.encode_submit_result(result, done.consistency_token)

    async def batch_submit_scores(
        self, request: pb.BatchSubmitScoresRequest, _call: CallContext
    ) -> pb.BatchSubmitScoresResponse:
        """Records scores; each succeeds or fails by itself."""
        items = submissions.decode_submissions(request.submissions, self.new_submission_id)
        done = await self.submit_scores(items)
        return pb.BatchSubmitScoresResponse(
            results=submissions.encode_submit_results(done),
            consistency_token=done.consistency_token,
        )

    async def stream_submit_scores(
        self, requests: AsyncIterator[pb.StreamSubmitScoresRequest], _call: CallContext
    ) -> AsyncGenerator[pb.StreamSubmitScoresResponse, None]:
        """Records scores as they come; rpc/stream_submit.py says how."""
        stream = SubmitStream(requests, self.submit_scores, self.new_submission_id, self.drain)
        async with aclosing(stream.answers()) as answers:
            async for answer in answers:
                yield answer

    async def get_entry(
        self, request: pb.GetEntryRequest, _call: CallContext
    ) -> pb.GetEntryResponse:
        """One user's entry."""
        board_id = fields.board_id(request.board_id)
        user_id = fields.user_id(request.user_id)
        entry, meta = await self.get_entry_of(board_id, user_id, entries.decode_options(request))
        return pb.GetEntryResponse(
            entry=entries.encode_entry(entry), meta=entries.encode_meta(meta)
        )

    async def batch_get_entries(
        self, request: pb.BatchGetEntriesRequest, _call: CallContext
    ) -> pb.BatchGetEntriesResponse:
        """The entries of some users."""
        board_id = fields.board_id(request.board_id)
        user_ids = entries.decode_user_ids(request.user_ids)
        found = await self.batch_get(board_id, user_ids, entries.decode_options(request))
        return pb.BatchGetEntriesResponse(
            entries=map(entries.encode_entry, found.entries),
            missing_user_ids=found.missing_user_ids,
            meta=entries.encode_meta(found.meta),
        )

    async def list_entries(
        self, request: pb.ListEntriesRequest, _call: CallContext
    ) -> pb.ListEntriesResponse:
        """A page of a board."""
        page = await self.list_page(
            fields.board_id(request.board_id),
            page_size=fields.page_size(request.page_size, default=entries.PAGE_SIZE_DEFAULT),
            page_token=fields.token(request.page_token, "page_token"),
            start_rank=entries.decode_start_rank(request),
            options=entries.decode_options(request),
        )
        return pb.ListEntriesResponse(
            entries=map(entries.encode_entry, page.entries),
            next_page_token=page.next_page_token,
            meta=entries.encode_meta(page.meta),
        )
