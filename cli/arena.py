"""A game day on the board "arena": who plays how often, and how well."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from standings_client import AsyncClient, Board, BoardExists, Outcome, StandingsError, SubmitResult

BOARD_ID: Final = "arena"
ZIPF_EXPONENT: Final = 0.9
"""How much more the keen play: the first player about twice as often as the second."""
SKILL_MEAN: Final = 1_500
SKILL_SPREAD: Final = 400
FORM_SPREAD: Final = 150
"""How much a player's results vary."""


@dataclass(frozen=True, slots=True)
class GameDay:
    """How much is played. The same values play the same day."""

    player_count: int
    score_count: int
    seed: int

    def results(self) -> Iterator[tuple[int, int]]:
        """(user_id, score), in the order of play. User 1 plays most."""
        chance = random.Random(self.seed)  # noqa: S311 - a game, not a secret
        users = range(1, self.player_count + 1)
        skills = [chance.gauss(SKILL_MEAN, SKILL_SPREAD) for _ in users]
        activity = list(itertools.accumulate(user**-ZIPF_EXPONENT for user in users))
        for user in chance.choices(users, cum_weights=activity, k=self.score_count):
            yield user, max(0, round(chance.gauss(skills[user - 1], FORM_SPREAD)))


async def play(client: AsyncClient, day: GameDay, console: Console) -> None:
    """Sends the day's scores over one stream, and says how fast that went."""
    try:
        await client.boards.create(Board(board_id=BOARD_ID, title="The arena"))
    except BoardExists:
        console.print(f'the board "{BOARD_ID}" is there already: another day on it')
    started = time.monotonic()
    counts = await _submit_all(client, day, console)
    rate = day.score_count / (time.monotonic() - started)
    outcomes = ", ".join(f"{count:,} {outcome}" for outcome, count in counts.most_common())
    console.print(f"{day.score_count:,} scores played, {rate:,.0f} a second: {outcomes}")


async def _submit_all(client: AsyncClient, day: GameDay, console: Console) -> Counter[str]:
    counts: Counter[str] = Counter()
    progress = Progress(
        TextColumn("playing"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        console=console,
        transient=True,
        # A log gets the closing line alone.
        disable=not console.is_terminal,
    )
    with progress:
        task = progress.add_task("", total=day.score_count, rate="")
        started = time.monotonic()

        def settled(future: asyncio.Future[SubmitResult]) -> None:
            counts[_outcome(future)] += 1
            rate = counts.total() / (time.monotonic() - started)
            progress.update(task, completed=counts.total(), rate=f"{rate:,.0f} scores/s")

        async with client.stream_submitter() as submitter:
            for user_id, score in day.results():
                future = await submitter.submit(BOARD_ID, user_id, score)
                future.add_done_callback(settled)
    return counts


def _outcome(future: asyncio.Future[SubmitResult]) -> str:
    try:
        outcome = future.result().outcome
    except StandingsError as error:
        return f"failed ({type(error).__name__})"
    except asyncio.CancelledError:
        return "unanswered"
    texts = {
        Outcome.APPLIED: "changed an entry",
        Outcome.UNCHANGED: "beat no best",
        Outcome.DUPLICATE: "known before",
    }
    return texts.get(outcome, outcome.name.lower())
