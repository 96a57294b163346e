"""Notices callers that have gone while we were busy for them.

An ASGI server tells of it only where it is asked: by `receive`. Asking costs a trip to another
thread, so only calls that take long are asked about, all of them by one timer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Receive = Callable[[], Awaitable[Mapping[str, Any]]]

GONE: Final = "http.disconnect"
_LOOK_S: Final = 0.25


@dataclass(slots=True, eq=False)
class Caller:
    """Somebody who waits, and the task that works for them."""

    receive: Receive
    task: asyncio.Task[Any]
    old: bool = False
    asked: bool = False


class Presence:
    """All callers of whom nothing more is read. Cancels the tasks of those that have gone."""

    def __init__(self) -> None:
        self._callers: set[Caller] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._questions: set[asyncio.Future[None]] = set()

    def enter(self, receive: Receive) -> Caller:
        """From now on the caller of the current task may go; end it with `leave`."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("calls run in tasks")
        caller = Caller(receive, task)
        self._callers.add(caller)
        if self._timer is None:
            self._timer = task.get_loop().call_later(_LOOK_S, self._look)
        return caller

    def leave(self, caller: Caller) -> None:
        """The work is done."""
        self._callers.discard(caller)

    def _look(self) -> None:
        for caller in self._callers:
            if caller.old and not caller.asked:
                caller.asked = True
                question = asyncio.ensure_future(self._ask(caller))
                self._questions.add(question)
                question.add_done_callback(self._questions.discard)
            caller.old = True
        self._timer = None
        if self._callers:
            self._timer = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    async def _ask(self, caller: Caller) -> None:
        event = await caller.receive()
        caller.asked = False
        if event["type"] == GONE and caller in self._callers:
            self._callers.discard(caller)
            caller.task.cancel()
