"""The client for asyncio."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

import grpc

from standings.v1 import ranking_service_pb2_grpc as pb_grpc
from standings_client import _codec, _places
from standings_client._channel import (
    CHANNEL_OPTIONS,
    WATCH_CHANNEL_OPTIONS,
    Token,
    with_token,
)
from standings_client._drafts import Batch, draft_of, draft_of_deletion
from standings_client._environment import Environment
from standings_client._ids import SubmissionIds
from standings_client._retry import RetryPolicy
from standings_client._watch import OpenWatches, Question, Watch, WatchOptions
from standings_client._window import StreamOptions
from standings_client.aio.boards import Boards
from standings_client.aio.calls import Calls
from standings_client.aio.moderation import Moderation
from standings_client.aio.submitter import StreamSubmitter
from standings_client.aio.watch import Follower, Shared
from standings_client.errors import StandingsError
from standings_client.types import (
    AroundOptions,
    BatchSubmitResult,
    EntriesAnswer,
    EntriesAroundAnswer,
    Entry,
    EntryAnswer,
    EntryDeleted,
    EntryPage,
    EstimateOptions,
    Percentile,
    RangeOptions,
    RankEstimate,
    ReadOptions,
    Submission,
    SubmitOptions,
    SubmitResult,
    WatchQuestion,
    WatchUpdate,
)


class AsyncClient:
    """A connection to Standings, for the tasks of one event loop; `boards` is about boards,
    `moderation` about users who are to leave them.

    `credentials` None: without TLS; `tls_credentials` makes some. `token` gives the bearer token of
    the moment, for servers that ask for one. `timeout_s` is a call's whole time, retries included,
    unless the call names its own. Every method raises StandingsError by the reason of the failure.
    """

    def __init__(
        self,
        address: str,
        *,
        credentials: grpc.ChannelCredentials | None = None,
        token: Token | None = None,
        timeout_s: float = 2.0,
        retry_policy: RetryPolicy | None = None,
        environment: Environment | None = None,
    ) -> None:
        self._environment = environment or Environment()
        self._policy = retry_policy or RetryPolicy()
        secured = with_token(credentials, token)
        self._channel, self._watch_channel = (
            _channel(address, secured, options)
            for options in (CHANNEL_OPTIONS, WATCH_CHANNEL_OPTIONS)
        )
        self._stub = pb_grpc.RankingServiceStub(self._channel)
        self._calls = Calls(self._policy, self._environment, timeout_s)
        self._ids = SubmissionIds(self._environment.wall_ms, self._environment.random_bits)
        self._shared = Shared(
            streams=pb_grpc.RankingServiceStub(self._watch_channel),
            polls=self._stub,
            calls=self._calls,
            environment=self._environment,
            watches=OpenWatches(),
        )
        self.boards = Boards(self._channel, self._calls)
        self.moderation = Moderation(self._channel, self._calls)

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
        """Ends the connections and every call on them; leave the submitters first."""
        await self._channel.close()
        # After the other, on which a watch that breaks would poll.
        await self._watch_channel.close()

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

    async def delete_entry(
        self,
        board_id: str,
        user_id: int,
        *,
        season_id: str = "",
        submission_id: str | None = None,
        timeout_s: float | None = None,
    ) -> EntryDeleted:
        """Takes one entry off a board, once, however often it has to be sent.

        A later submission of the user starts anew. `submission_id` is a UUIDv7 as in
        submit_score; `season_id` empty: the current one. Raises BoardNotFound, SeasonNotFound,
        EntryNotFound, SubmissionIdReused and SeasonNotOpen among others.
        """
        draft = draft_of_deletion(
            board_id, user_id, season_id=season_id, submission_id=submission_id, ids=self._ids
        )
        attempts = self._calls.begin(timeout_s)
        try:
            response = await self._calls.run(self._stub.DeleteEntry, draft.request, attempts)
        except StandingsError as error:
            if not draft.remint(error, attempts.count, self._ids):
                raise
            response = await self._calls.run(self._stub.DeleteEntry, draft.request, attempts)
        return _codec.entry_deleted(response)

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
        """The entries of up to 1,000 users, best first, each with its rank among them too."""
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
        timeout_s: float | None = None,
        **options: Unpack[RangeOptions],
    ) -> EntryPage:
        """A page of a board, best first; `page_size` 1 to 1,000, 0 means 10.

        It begins where `page_token` says, at `start_rank` or at the top, and holds scores from
        `min_score` to `max_score`; a short page is the last one. A token of an earlier answer goes
        on there or, as `previous_page_token`, back; the two scores have to be as they were then.
        """
        attempts = self._calls.begin(timeout_s)
        request = _codec.list_entries_request(board_id, page_size, page_token, **options)
        return _codec.entry_page(await self._calls.run(self._stub.ListEntries, request, attempts))

    async def iter_entries(
        self,
        board_id: str,
        *,
        page_size: int = 100,
        timeout_s: float | None = None,
        **options: Unpack[RangeOptions],
    ) -> AsyncIterator[Entry]:
        """All entries from `start_rank` or the top on, best first, fetched page by page.

        `min_score` and `max_score` leave out the others. `timeout_s` is for each page. A board
        that changes meanwhile may show a user twice or not.
        """
        page = await self.list_entries(
            board_id, page_size=page_size, timeout_s=timeout_s, **options
        )
        for item in page.entries:
            yield item
        # The token says where to go on.
        options["start_rank"] = None
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

    async def list_entries_around(
        self,
        board_id: str,
        *,
        user_id: int | None = None,
        score: int | None = None,
        subscore: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[AroundOptions],
    ) -> EntriesAroundAnswer:
        """The entries around a user, who is among them, or around the place of a result.

        Exactly one of `user_id` and `score` is given; a result's place is after all entries with
        it. Raises BoardNotFound, EntryNotFound where the user has none, and ValueError.
        """
        request = _places.list_entries_around_request(
            board_id, user_id=user_id, score=score, subscore=subscore, **options
        )
        attempts = self._calls.begin(timeout_s)
        response = await self._calls.run(self._stub.ListEntriesAround, request, attempts)
        return _places.entries_around(response)

    async def estimate_rank(
        self,
        board_id: str,
        score: int,
        *,
        subscore: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[EstimateOptions],
    ) -> RankEstimate:
        """Which rank a result would take, and what it takes to rise. Writes nothing."""
        attempts = self._calls.begin(timeout_s)
        request = _places.estimate_rank_request(board_id, score, subscore, **options)
        response = await self._calls.run(self._stub.EstimateRank, request, attempts)
        return _places.rank_estimate(response)

    async def get_percentile(
        self,
        board_id: str,
        percent: float | None = None,
        *,
        score: int | None = None,
        subscore: int = 0,
        timeout_s: float | None = None,
        **options: Unpack[ReadOptions],
    ) -> Percentile:
        """Which result stands at a percent of the board, or at which percent a result stands.

        Exactly one of `percent`, above 0 and at most 100, and `score` is given, else ValueError.
        """
        request = _places.get_percentile_request(
            board_id, percent, score=score, subscore=subscore, **options
        )
        attempts = self._calls.begin(timeout_s)
        response = await self._calls.run(self._stub.GetPercentile, request, attempts)
        return _places.percentile(response)

    def watch_entries(
        self,
        board_id: str,
        *,
        heartbeats: bool = False,
        options: WatchOptions | None = None,
        **question: Unpack[WatchQuestion],
    ) -> AsyncGenerator[WatchUpdate, None]:
        """Follows the top of a board, or some users: what they are, then whenever that changes.

        Where the stream is refused or breaks, the client polls until it has a new one; see
        WatchOptions. What happens while the caller is busy becomes one update. `heartbeats`: also
        yield where nothing changed, every 15 s or with every poll. Of a named `season_id` the
        iterator ends when the next season begins, or when it is not there any more.

        `aclose` of the iterator ends the stream at once, and breaking out of the loop does
        within a turn of the event loop; contextlib.aclosing is sure in any case.
        Raises BoardNotFound, SeasonNotFound, InvalidArgument and what else no other try mends;
        TooManyWatches with the first update where 200 are open on this client; and ValueError at
        once unless one of `top_count` and `user_ids` is given.
        """
        asked = Question(board_id, **question)
        times = options or WatchOptions()
        watch = Watch(asked, times, self._environment, heartbeats=heartbeats)
        return Follower(self._shared, asked, watch).updates()


def _channel(
    address: str,
    credentials: grpc.ChannelCredentials | None,
    options: Sequence[tuple[str, Any]],
) -> grpc.aio.Channel:
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, options)
