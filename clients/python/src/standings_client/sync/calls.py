"""One call with its deadline and its retries."""

from __future__ import annotations

from typing import TypeVar

import grpc
from tenacity import Retrying, retry_if_exception

from standings_client._environment import Environment
from standings_client._retry import Attempts, RetryBudget, RetryPolicy
from standings_client._status import error_from_rpc
from standings_client.errors import StandingsError

Request = TypeVar("Request")
Response = TypeVar("Response")


class Calls:
    """Makes the calls of one client; safe from any thread."""

    def __init__(self, policy: RetryPolicy, environment: Environment, timeout_s: float) -> None:
        self._policy = policy
        self._environment = environment
        self._timeout_s = timeout_s
        self._budget = RetryBudget(policy, environment.monotonic_s)

    def begin(self, timeout_s: float | None) -> Attempts:
        """The attempts of a new call; `timeout_s` covers all of them, None: the client's."""
        self._budget.note_call()
        total_s = self._timeout_s if timeout_s is None else timeout_s
        return Attempts(self._policy, self._budget, self._environment, total_s)

    def run(
        self,
        method: grpc.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        attempts: Attempts,
    ) -> Response:
        """The response of the first attempt that has one. Raises the last one's StandingsError."""
        try:
            return _once(method, request, attempts)
        except StandingsError as error:
            if not attempts.again(error):
                raise
        # tenacity costs tens of microseconds a call, so it is met only after a failure.
        self._environment.sleep(attempts.delay_s)
        retrying = Retrying(
            retry=retry_if_exception(attempts.again),
            wait=lambda _: attempts.delay_s,
            sleep=self._environment.sleep,
            reraise=True,
        )
        return retrying(lambda: _once(method, request, attempts))


def _once(
    method: grpc.UnaryUnaryMultiCallable[Request, Response], request: Request, attempts: Attempts
) -> Response:
    try:
        return method(request, timeout=attempts.begin())
    except grpc.RpcError as error:
        raise error_from_rpc(error) from error
