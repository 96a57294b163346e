"""Scores in, ranks out: decode, call the use case, encode."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

from google.protobuf.descriptor import ServiceDescriptor

from core.errors import StandingsError
from server.drain import Drain
from server.rpc.call import CallContext
from server.rpc.codec import deletions, entries, fields, places, submissions
from server.rpc.codec.pages import EncodedPage, PageEncoder
from server.rpc.stream_submit import SubmitStream
from server.rpc.watch_stream import WatchStream
from server.use_cases import UseCases
from standings.v1 import ranking_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class RankingServicer:
    """Answers standings.v1.RankingService."""

    service: ClassVar[ServiceDescriptor] = pb.DESCRIPTOR.services_by_name["RankingService"]

    use_cases: UseCases
    drain: Drain
    _encode_page: PageEncoder = field(default_factory=PageEncoder)

    async def submit_score(
        self, request: pb.SubmitScoreRequest, call: CallContext
    ) -> pb.SubmitScoreResponse:
        """Records one score; its error is the call's."""
        submission = submissions.decode_submission(
            request, self.use_cases.new_submission_id, call.identity
        )
        done = await self.use_cases.submit_scores([submission])
        (result,) = done.results
        if isinstance(result, StandingsError):
            raise result
        return submissions.encode_submit_result(result, done.consistency_token)

    async def batch_submit_scores(
        self, request: pb.BatchSubmitScoresRequest, call: CallContext
    ) -> pb.BatchSubmitScoresResponse:
        """Records scores; each succeeds or fails by itself."""
        items = submissions.decode_submissions(
            request.submissions, self.use_cases.new_submission_id, call.identity
        )
        done = await self.use_cases.submit_scores(items)
        response = pb.BatchSubmitScoresResponse(consistency_token=done.consistency_token)
        submissions.put_submit_results(response.results, done)
        return response

    async def stream_submit_scores(
        self, requests: AsyncIterator[pb.StreamSubmitScoresRequest], call: CallContext
    ) -> AsyncGenerator[pb.StreamSubmitScoresResponse, None]:
        """Records scores as they come; rpc/stream_submit.py says how."""
        use_cases = self.use_cases
        stream = SubmitStream(
            requests,
            use_cases.submit_scores,
            use_cases.new_submission_id,
            self.drain,
            call.identity,
            call.account,
        )
        async with aclosing(stream.answers()) as answers:
            async for answer in answers:
                yield answer

    async def get_entry(
        self, request: pb.GetEntryRequest, _call: CallContext
    ) -> pb.GetEntryResponse:
        """One user's entry."""
        board_id = fields.board_id(request.board_id)
        user_id = fields.user_id(request.user_id)
        options = entries.decode_options(request)
        entry, meta = await self.use_cases.get_entry(board_id, user_id, options)
        response = pb.GetEntryResponse()
        entries.put_entry(response.entry, entry, meta)
        entries.put_meta(response.meta, meta)
        return response

    async def batch_get_entries(
        self, request: pb.BatchGetEntriesRequest, _call: CallContext
    ) -> pb.BatchGetEntriesResponse:
        """The entries of some users."""
        board_id = fields.board_id(request.board_id)
        user_ids = entries.decode_user_ids(request.user_ids)
        options = entries.decode_options(request)
        found = await self.use_cases.batch_get_entries(board_id, user_ids, options)
        response = pb.BatchGetEntriesResponse(missing_user_ids=found.missing_user_ids)
        entries.put_entries(response.entries, found.entries, found.meta)
        entries.put_meta(response.meta, found.meta)
        return response

    async def list_entries(self, request: pb.ListEntriesRequest, _call: CallContext) -> EncodedPage:
        """A page of a board."""
        page = await self.use_cases.list_entries(
            fields.board_id(request.board_id),
            page_size=fields.page_size(request.page_size, default=entries.PAGE_SIZE_DEFAULT),
            page_token=fields.token(request.page_token, "page_token"),
            start_rank=entries.decode_start_rank(request),
            scores=entries.decode_scores(request),
            options=entries.decode_options(request),
        )
        return self._encode_page(page)

    async def list_entries_around(
        self, request: pb.ListEntriesAroundRequest, _call: CallContext
    ) -> pb.ListEntriesAroundResponse:
        """The entries around a place."""
        board_id = fields.board_id(request.board_id)
        center = places.decode_center(request)
        above, below = places.decode_sides(request)
        options = entries.decode_options(request)
        window = await self.use_cases.list_entries_around(
            board_id, center, above=above, below=below, options=options
        )
        return places.encode_window(window)

    async def estimate_rank(
        self, request: pb.EstimateRankRequest, _call: CallContext
    ) -> pb.EstimateRankResponse:
        """What a result would be worth."""
        board_id = fields.board_id(request.board_id)
        point, rank, percent = places.decode_estimate(request)
        options = entries.decode_options(request)
        estimate = await self.use_cases.estimate_rank(
            board_id, point, target_rank=rank, target_percent=percent, options=options
        )
        return places.encode_estimate(estimate)

    async def get_percentile(
        self, request: pb.GetPercentileRequest, _call: CallContext
    ) -> pb.GetPercentileResponse:
        """Where a result stands among all."""
        board_id = fields.board_id(request.board_id)
        point = places.decode_percentile(request)
        options = entries.decode_options(request)
        percentile = await self.use_cases.get_percentile(board_id, point, options)
        return places.encode_percentile(percentile)

    async def watch_entries(
        self, request: pb.WatchEntriesRequest, call: CallContext
    ) -> AsyncGenerator[pb.WatchEntriesResponse, None]:
        """Follows a board; rpc/watch_stream.py says how."""
        stream = WatchStream(request, self.use_cases.watch_entries, self.drain, call)
        async with aclosing(stream.answers()) as answers:
            async for answer in answers:
                yield answer

    async def delete_entry(
        self, request: pb.DeleteEntryRequest, _call: CallContext
    ) -> pb.DeleteEntryResponse:
        """Takes one entry off a board."""
        board_id, user_id, season_id, submission_id, digest = deletions.decode_deletion(
            request, self.use_cases.new_submission_id
        )
        done = await self.use_cases.delete_entry(
            board_id, user_id, season_id=season_id, submission_id=submission_id, digest=digest
        )
        return deletions.encode_deletion(done)
