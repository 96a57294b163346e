"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from types import TracebackType
from typing import Self, Unpack

import grpc

from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client import _codec
from standings_client._channel import CHANNEL_OPTIONS
from standings_client._drafts import Batch, draft_of
from standings_client._environment import Environment
from standings_client._ids import SubmissionIds
from standings_client._retry import RetryPolicy
from standings_client._window import StreamOptions
from standings_client.aio.boards import Boards
from standings_client.aio.calls import Calls
from standings_client.aio.submitter import StreamSubmitter
from standings_client.errors import StandingsError
from standings_client.types import (
    BatchSubmitResult,
    EntriesAnswer,
    Entry,
    EntryAnswer,
    EntryPage,
    ReadOptions,
    Submission,
    SubmitOptions,
    SubmitResult,
)


class AsyncClient:
    """A connection to Standings, for the tasks of one event loop; `boards` is about boards.

    `credentials` None: without TLS. `timeout_s` is a call's whole time, retries included, unless
    the call names its own. Every method raises StandingsError by the reason of the failure.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        timeout_s: float = 2.0,
        retry_policy: RetryPolicy | None = None,
        environment: Environment | None = None,
    ) -> None:
        self._environment = environment or Environment()
        self._policy = retry_policy or RetryPolicy()
        self._channel = (
            grpc.aio.insecure_channel(address, CHANNEL_OPTIONS)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, CHANNEL_OPTIONS)
        )
        self._stub = pb_grpc.RankingServiceStub(self._channel)
        self._calls = Calls(self._policy, self._environment, timeout_s)
        self._ids = SubmissionIds(self._environment.wall_ms, self._environment.random_bits)
        self.boards = Boards(self._channel, self._calls)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection and every call on it; leave the submitters first."""
        await self._channel.close()

    async def submit_score(
        self,
        board_id: str,
        user_id: int,
        score: int,
        *,
        timeout_s: float | None = None,
        **options: Unpack[SubmitOptions],
    ) -> SubmitResult:
        """Records one score, once, however often it has to be sent.

        `options` are the further fields of Submission. Raises BoardNotFound, SubmissionIdReused,
        SeasonNotOpen and InvalidArgument among others.
        """
        draft = draft_of(Submission(board_id, user_id, score, **options), self._ids)
        attempts = self._calls.begin(timeout_s)
        try:
            response = await self._calls.run(self._stub.SubmitScore, draft.request, attempts)
        except StandingsError as error:
            if not draft.remint(error, attempts.count, self._ids):
                raise
            response = await self._calls.run(self._stub.SubmitScore, draft.request, attempts)
        return _codec.submit_result(response)

    async def batch_submit_scores(
        self, submissions: Iterable[Submission], *, timeout_s: float | None = None
    ) -> BatchSubmitResult:
        """Records 1 to 1,000 scores; each succeeds or fails by itself, see BatchSubmitResult."""
        batch = Batch(submissions, self._ids)
        attempts = self._calls.begin(timeout_s)
        method = self._stub.BatchSubmitScores
        response = await self._calls.run(method, batch.request(), attempts)
        if batch.settle(response, attempts.count):
            try:
                response = await self._calls.run(method, batch.request(), attempts)
                batch.settle(response, attempts.count)
            except StandingsError as error:
                batch.fail(error)
        return batch.result()

    def stream_submitter(self, options: StreamOptions | None = None) -> StreamSubmitter:
        """A context that sends many scores over one stream; see StreamSubmitter."""
        return StreamSubmitter(
            self._stub.StreamSubmitScores,
            options or StreamOptions(),
            self._policy,
            self._ids,
            self._environment,
        )

    async def get_entry(
        self,
        board_id: str,
        user_id: int,
        *,
        timeout_s: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> EntryAnswer:
        """One user's entry with its rank. Raises BoardNotFound, EntryNotFound."""
        attempts = self._calls.begin(timeout_s)
        request = _codec.get_entry_request(board_id, user_id, **options)
        return _codec.entry_answer(await self._calls.run(self._stub.GetEntry, request, attempts))

    async def batch_get_entries(
        self,
        board_id: str,
        user_ids: Iterable[int],
        *,
        timeout_s: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> EntriesAnswer:
        """The entries of 1 to 1,000 users, best first, each with its rank among them too."""
        attempts = self._calls.begin(timeout_s)
        request = _codec.batch_get_entries_request(board_id, user_ids, **options)
        return _codec.entries_answer(
            await self._calls.run(self._stub.BatchGetEntries, request, attempts)
        )

    async def list_entries(
        self,
        board_id: str,
        *,
        page_size: int = 0,
        page_token: str = "",
        start_rank: int | None = None,
        timeout_s: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> EntryPage:
        """A page of a board, best first; `page_size` 1 to 1,000, 0 means 10.

        It begins after the page of `page_token`, or at the 1-based ordinal `start_rank`, or at the
        top; a short page is the last one.
        """
        attempts = self._calls.begin(timeout_s)
        request = _codec.list_entries_request(
            board_id, page_size, page_token, start_rank, **options
        )
        return _codec.entry_page(await self._calls.run(self._stub.ListEntries, request, attempts))

    async def iter_entries(
        self,
        board_id: str,
        *,
        page_size: int = 100,
        start_rank: int | None = None,
        timeout_s: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> AsyncIterator[Entry]:
        """All entries from `start_rank` or the top on, best first, fetched page by page.

        `timeout_s` is for each page. A board that changes meanwhile may show a user twice or not.
        """
        page = await self.list_entries(
            board_id, page_size=page_size, start_rank=start_rank, timeout_s=timeout_s, **options
        )
        for item in page.entries:
            yield item
        while page.next_page_token:
            page = await self.list_entries(
                board_id,
                page_size=page_size,
                page_token=page.next_page_token,
                timeout_s=timeout_s,
                **options,
            )
            for item in page.entries:
                yield item
