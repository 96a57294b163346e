"""What is measured in turn: the product's calls, each beside its floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.driving import Driver, Groups, Measure
from bench.echo import Echoed
from bench.figures import HALF, entries_note, floor_of
from bench.floors import Echo, answer_of
from bench.ghz import Ghz
from bench.requests import BATCH_SIZE, Requests
from bench.rounds import Key, Kind
from bench.samples import Median
from bench.shapes import (
    GET_SHAPE,
    SHAPES,
    STREAM,
    SUBMIT_SHAPE,
    WATCH,
    Shape,
    deep_shape,
    page_shapes,
)
from bench.streams import StreamDriver
from bench.watching import WatchDriver

STREAM_SHAPE: Final = Shape(
    STREAM,
    "StreamSubmitScores",
    Requests.stream_submit_scores,
    callers=1,
    units=BATCH_SIZE,
    unit="scores",
)
UNITS: Final[Mapping[str, tuple[int, str]]] = {
    **{shape.name: (shape.units, shape.unit) for shape in (*SHAPES, STREAM_SHAPE)},
    WATCH: (1, "messages"),
}


@dataclass(frozen=True, slots=True)
class Played:
    """A board of the run, and the token of a write to it."""

    requests: Requests
    token: str


@dataclass(frozen=True, slots=True)
class Site:
    """Where the load goes: to the product and, where there is one, to its floor."""

    ghz: Ghz
    folder: Path
    address: str
    groups: Groups
    echo: Echo | None = None

    def product(
        self, shape: Shape, requests: Requests, callers: int, *, note: str = "", rate: int = 0
    ) -> tuple[Key, Measure]:
        """One kind of call to the product."""
        key = Key(shape.name, Kind.PRODUCT, shape.callers or callers, note)
        return key, Driver(
            self.ghz, self.folder, shape, requests, self.address, callers, self.groups, rate
        )

    def floor(self, shape: Shape, requests: Requests, callers: int) -> Mapping[Key, Measure]:
        """The same load on its floor; nothing where it has none."""
        echo = self.echo
        if echo is None or not shape.echoed:
            return {}
        key = floor_of(Key(shape.name, Kind.PRODUCT, callers))
        return {
            key: Driver(
                self.ghz,
                self.folder,
                shape,
                requests,
                echo.address,
                callers,
                lambda: {"echo": echo.pids},
                fresh=False,
            )
        }


async def answers_of(address: str, requests: Requests) -> Sequence[Echoed]:
    """What the product says to one call of each kind that has an echo. Raises
    grpc.aio.AioRpcError.
    """
    answers = []
    for shape in SHAPES:
        if shape.echoed:
            request = shape.make(requests).SerializeToString()
            answer = await answer_of(address, shape.path, request)
            answers.append(Echoed(shape.path, request, answer))
    return answers


def headline(
    site: Site, played: Played, callers: Sequence[int], raw: Mapping[Key, Measure]
) -> Mapping[Key, Measure]:
    """Every kind of call, by so many callers each, beside its floor; `raw` are the floors that are
    no echo.
    """
    subjects: dict[Key, Measure] = {}
    requests = played.requests
    for count in callers:
        for shape in (*SHAPES, *page_shapes(played.token)):
            key, measure = site.product(shape, requests, count)
            if key in subjects:
                continue
            own_floor = floor_of(key)
            subjects |= site.floor(shape, requests, count)
            if own_floor in raw:
                subjects[own_floor] = raw[own_floor]
            subjects[key] = measure
        subjects[Key(WATCH, Kind.PRODUCT, count)] = WatchDriver(
            requests, site.address, count, site.groups
        )
    subjects[Key(STREAM, Kind.PRODUCT, 1)] = StreamDriver(
        STREAM_SHAPE, requests, site.address, site.groups
    )
    return subjects


def half_loads(
    site: Site, played: Played, medians: Mapping[Key, Median], callers: int
) -> Mapping[Key, Measure]:
    """What has been measured at the most that it does, at half of that."""
    subjects = {}
    for shape in (SUBMIT_SHAPE, GET_SHAPE):
        most = medians[Key(shape.name, Kind.PRODUCT, callers)].rate
        key, measure = site.product(
            shape, played.requests, callers, note=HALF, rate=max(1, round(most / 2))
        )
        subjects[key] = measure
    return subjects


def growth(site: Site, boards: Sequence[Played], callers: int) -> Mapping[Key, Measure]:
    """The calls whose cost may grow with a board, on boards of several sizes."""
    subjects = {}
    # The same call on every board before the next one: what is compared stands side by side.
    for make in (_get, _deep, _submit):
        for played in boards:
            note = entries_note(played.requests.entry_count)
            key, measure = site.product(make(played), played.requests, callers, note=note)
            subjects[key] = measure
    return subjects


def _get(_played: Played) -> Shape:
    return GET_SHAPE


def _deep(played: Played) -> Shape:
    return deep_shape(played.token)


def _submit(_played: Played) -> Shape:
    return SUBMIT_SHAPE
