"""The only writer of a board: it knows what the board must show, and asks."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

import grpc

from chaos.load import new_id
from chaos.soak.calling import CODES, DETAILS, OK, Calling, Mood, end_of
from chaos.soak.tally import End
from standings.v1 import ranking_service_pb2 as pb
from standings.v1 import types_pb2

STEP: Final = 10_000
"""Every score is a multiple of it and a number below it that is the user's own: no two users are
ever equal, so that places are known without knowing who came first."""
_MOODS: Final[Mapping[Mood, float]] = {
    Mood.PATIENT: 0.55,
    Mood.FICKLE: 0.15,
    Mood.HASTY: 0.15,
    Mood.CUT_OFF: 0.15,
}
_ERROR_INFO: Final = b"type.googleapis.com/google.rpc.ErrorInfo"
_BATCH_MAX: Final = 20
_MESSAGES_MAX: Final = 6
_SETTLE_TRIES_MAX: Final = 10
_AGAIN_S: Final = 0.2
_CATCH_UP_S: Final = 20.0
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_TAKEN: Final = frozenset({types_pb2.OUTCOME_APPLIED, types_pb2.OUTCOME_DUPLICATE})


class Stuck(Exception):
    """An owner cannot go on: it does not know any more what its board must show."""


@dataclass(slots=True)
class Owner:
    """A board that adds up, and the one who writes to it."""

    board: str
    users: Sequence[int]
    calling: Calling
    rng: random.Random
    totals: dict[int, int] = field(default_factory=dict)
    """What every user must have."""
    counts: Counter[int] = field(default_factory=Counter)
    taken: set[str] = field(default_factory=set)
    """The ids of all submissions that were acknowledged: in the end these are all there are."""
    behind: bool = False
    """Whether it was told that the index does not show something yet."""

    def place(self, user: int) -> int:
        """The user's rank."""
        own = self.totals[user]
        return 1 + sum(1 for total in self.totals.values() if total > own)

    def page(self, count: int) -> Sequence[int]:
        """The users at the top, best first."""
        return sorted(self.totals, key=lambda user: -self.totals[user])[:count]

    def mood(self) -> Mood:
        """What the next caller is."""
        (mood,) = self.rng.choices(list(_MOODS), list(_MOODS.values()))
        return mood

    async def turn(self) -> None:
        """Writes something, until it is acknowledged, and asks what there is now."""
        write = self.rng.choice((self._submit, self._batch, self._stream))
        token = await write(self.mood())
        if self.behind:
            await self._catch_up()
        for mood in (self.mood(), Mood.PATIENT):
            read = self.rng.choice((self._entry, self._top, self._around, self._some, self._nobody))
            await read(token, mood)

    async def write(self, users: Sequence[int]) -> str:
        """One batch; its consistency token."""
        return await self._settle(self._submissions(users))

    async def _submit(self, mood: Mood) -> str:
        (request,) = self._submissions(self.rng.sample(self.users, 1))
        request.return_rank = mood is Mood.PATIENT
        reply = await self.calling.ask("SubmitScore", request, mood)
        if reply is None:
            return await self._settle([request])
        self._take(request, reply, "SubmitScore")
        # 0: it could not be read, or is not asked for.
        if reply.entry.rank:
            right = self.place(request.user_id)
            self._check("SubmitScore", reply.entry.rank == right, f"{reply.entry}, not at {right}")
        token: str = reply.consistency_token
        return token

    async def _batch(self, mood: Mood) -> str:
        count = self.rng.randrange(1, _BATCH_MAX)
        return await self._settle(self._submissions(self.rng.sample(self.users, count)), mood)

    async def _settle(
        self, requests: Sequence[pb.SubmitScoreRequest], mood: Mood = Mood.PATIENT
    ) -> str:
        """Sends them, patiently where the first time brought no answer; the token of all."""
        batch = pb.BatchSubmitScoresRequest(submissions=requests)
        for _ in range(_SETTLE_TRIES_MAX):
            reply = await self.calling.ask("BatchSubmitScores", batch, mood)
            if reply is not None:
                refused = self._take_all(requests, reply.results, "BatchSubmitScores", mood)
                if not refused:
                    token: str = reply.consistency_token
                    return token
            mood = Mood.PATIENT
            await asyncio.sleep(_AGAIN_S)
        raise Stuck(f"nobody knows what became of a batch for {self.board}")

    def _take_all(
        self,
        requests: Sequence[pb.SubmitScoreRequest],
        results: Sequence[pb.BatchSubmitResult],
        method: str,
        mood: Mood,
    ) -> int:
        """How many were refused because it cannot be done now."""
        refused = 0
        for request, result in zip(requests, results, strict=True):
            if result.WhichOneof("result") == "response":
                self._take(request, result.response, method)
                continue
            refused += 1
            error = result.error
            end = End(_CODES.get(error.code, ""), error.message, explained=bool(error.details))
            self.calling.tally.ended(f"{mood.value}, single submissions", method, end, ())
        return refused

    async def _stream(self, mood: Mood) -> str:
        """Messages on a stream of which some callers see no end; then all of it as a batch, which
        has to be told what happened the first time.
        """
        count = self.rng.randrange(1, _MESSAGES_MAX)
        parts = [
            self._submissions(users)
            for users in _parted(self.rng.sample(self.users, 3 * count), count)
        ]
        limits = self.calling.limits(mood)
        call = self.calling.stub(mood).StreamSubmitScores(
            self._messages(parts, slow=mood is Mood.CUT_OFF), timeout=limits.timeout_s
        )
        answers: list[pb.StreamSubmitScoresResponse] = []
        end = await self._read_stream(call, answers, mood, limits.cancel_s)
        kind, code = f"{mood.value} on a stream", end.code
        self.calling.tally.ended(kind, "StreamSubmitScores", end, CODES[mood])
        sequences = sorted(answer.sequence for answer in answers)
        right = (
            sequences == [*range(count)] if code == OK else len(set(sequences)) == len(sequences)
        )
        self._check("StreamSubmitScores", right, f"{code} after {sequences} of {count}")
        for answer in answers:
            part = parts[answer.sequence]
            self._take_all(part, answer.results, "StreamSubmitScores", mood)
        return await self._settle([request for part in parts for request in part])

    async def _read_stream(
        self,
        call: grpc.aio.StreamStreamCall[Any, pb.StreamSubmitScoresResponse],
        answers: list[pb.StreamSubmitScoresResponse],
        mood: Mood,
        cancel_s: float | None,
    ) -> End:
        """Collects the answers, also those before a bad end."""
        loop = asyncio.get_running_loop()
        giving_up = None if cancel_s is None else loop.call_later(cancel_s, call.cancel)
        try:
            async for answer in call:
                answers.append(answer)  # noqa: PERF401 - kept when the next one fails
            return End((await call.code()).name, await call.details())
        except grpc.aio.AioRpcError as error:
            return end_of(error)
        except asyncio.CancelledError:
            if mood is not Mood.FICKLE or not call.cancelled():
                raise
            return End("CANCELLED")
        finally:
            if giving_up is not None:
                giving_up.cancel()
            call.cancel()

    async def _messages(
        self, parts: Sequence[Sequence[pb.SubmitScoreRequest]], *, slow: bool
    ) -> AsyncIterator[pb.StreamSubmitScoresRequest]:
        for number, part in enumerate(parts):
            yield pb.StreamSubmitScoresRequest(sequence=number, submissions=part)
            if slow:
                await asyncio.sleep(self.rng.uniform(0, 0.3))

    def _submissions(self, users: Sequence[int]) -> list[pb.SubmitScoreRequest]:
        requests = []
        for user in users:
            first = user % STEP if user not in self.totals else 0
            requests.append(
                pb.SubmitScoreRequest(
                    board_id=self.board,
                    user_id=user,
                    score=first + STEP * self.rng.randrange(1, 100),
                    submission_id=new_id(),
                )
            )
        return requests

    def _take(self, request: pb.SubmitScoreRequest, reply: Any, method: str) -> None:  # noqa: ANN401 - a response
        """What an acknowledgement says must be what has to be; it counts once."""
        user = request.user_id
        if request.submission_id not in self.taken:
            self.taken.add(request.submission_id)
            self.totals[user] = self.totals.get(user, 0) + request.score
            self.counts[user] += 1
        right = (
            reply.outcome in _TAKEN
            and reply.first_outcome == types_pb2.OUTCOME_APPLIED
            and reply.entry.score == self.totals[user]
        )
        self._check(method, right, f"{reply}, where user {user} has {self.totals[user]}")
        self.behind = self.behind or not reply.indexed

    async def _catch_up(self) -> None:
        """Waits until the index shows all there is; it was said to do so within seconds."""
        request = pb.ListEntriesRequest(board_id=self.board, page_size=len(self.users))
        end_s = time.monotonic() + _CATCH_UP_S
        due = [(user, self.totals[user]) for user in self.page(len(self.totals))]
        while time.monotonic() < end_s:
            reply = await self.calling.ask("ListEntries", request)
            shown = [(entry.user_id, entry.score) for entry in reply.entries] if reply else None
            if shown == due:
                self.behind = False
                return
            await asyncio.sleep(_AGAIN_S)
        self._check("ListEntries", False, f"{self.board} has not caught up")

    async def _entry(self, token: str, mood: Mood) -> None:
        user = self.rng.choice(list(self.totals))
        request = pb.GetEntryRequest(board_id=self.board, user_id=user, options=_with(token))
        reply = await self.calling.ask("GetEntry", request, mood)
        if reply is not None:
            self._check_entries("GetEntry", [reply.entry], [user], reply.meta)

    async def _top(self, token: str, mood: Mood) -> None:
        count = self.rng.choice((1, 10, 100))
        request = pb.ListEntriesRequest(board_id=self.board, page_size=count, options=_with(token))
        reply = await self.calling.ask("ListEntries", request, mood)
        if reply is not None:
            self._check_entries("ListEntries", reply.entries, self.page(count), reply.meta)

    async def _around(self, token: str, mood: Mood) -> None:
        user = self.rng.choice(list(self.totals))
        request = pb.ListEntriesAroundRequest(
            board_id=self.board, user_id=user, above=2, below=2, options=_with(token)
        )
        reply = await self.calling.ask("ListEntriesAround", request, mood)
        if reply is not None:
            everybody = self.page(len(self.totals))
            first = max(0, min(self.place(user) - 3, len(everybody) - 5))
            right = everybody[first : first + 5]
            self._check_entries("ListEntriesAround", reply.entries, right, reply.meta)

    async def _some(self, token: str, mood: Mood) -> None:
        users = self.rng.sample(list(self.totals), min(20, len(self.totals)))
        request = pb.BatchGetEntriesRequest(
            board_id=self.board, user_ids=users, options=_with(token)
        )
        reply = await self.calling.ask("BatchGetEntries", request, mood)
        if reply is not None:
            right = sorted(users, key=lambda user: -self.totals[user])
            self._check_entries("BatchGetEntries", reply.entries, right, reply.meta)

    async def _nobody(self, token: str, mood: Mood) -> None:
        """A user without an entry: a status with details behind it."""
        limits = self.calling.limits(mood)
        request = pb.GetEntryRequest(board_id=self.board, user_id=2**40, options=_with(token))
        call = self.calling.stub(mood).GetEntry(request, timeout=limits.timeout_s)
        _, end = await self.calling.end_of(call, limits, "GetEntry of nobody")
        allowed = {*CODES[mood], "NOT_FOUND"} - {OK}
        self.calling.tally.ended(f"{mood.value}, asking for nobody", "GetEntry", end, allowed)
        if end.code == "NOT_FOUND":
            trailers = dict(iter(await call.trailing_metadata()))
            details = trailers.get(DETAILS)
            right = isinstance(details, bytes) and _ERROR_INFO in details
            self._check("details", right, f"{trailers}")

    def _check_entries(
        self,
        method: str,
        entries: Sequence[types_pb2.Entry],
        users: Sequence[int],
        meta: Any,  # noqa: ANN401 - ReadMeta
    ) -> None:
        """These users with their totals, at their places; where an answer admits not to know a
        place, it is within the bounds.
        """
        exact = meta.exactness == types_pb2.EXACTNESS_EXACT
        right = [entry.user_id for entry in entries] == [*users] and all(
            entry.score == self.totals[entry.user_id]
            and (entry.rank_low <= self.place(entry.user_id) <= entry.rank_high)
            and (not exact or entry.rank == self.place(entry.user_id))
            for entry in entries
        )
        if right:
            self._check(method, True, "")
            return
        told = [(entry.user_id, entry.rank, entry.score) for entry in entries]
        due = [(user, self.place(user), self.totals[user]) for user in users]
        differ = [pair for pair in zip_longest(told, due) if pair[0] != pair[1]]
        self._check(method, False, f"{self.board}, told and due: {differ[:5]}; {meta}")

    def _check(self, method: str, right: bool, text: str) -> None:  # noqa: FBT001 - what it is about
        self.calling.tally.check(method, right, text)


def _parted(users: Sequence[int], count: int) -> Sequence[Sequence[int]]:
    return [users[at::count] for at in range(count)]


def _with(token: str) -> types_pb2.ReadOptions:
    return types_pb2.ReadOptions(consistency_token=token)
