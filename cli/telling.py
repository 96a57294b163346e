"""Where a command tells what is measured."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from bootstrap.errors import NotConfigured

_log = logging.getLogger(__name__)


@contextmanager
def metrics_told(
    address: str | None,
    serve: Callable[[str], AbstractContextManager[str]],
    *,
    otherwise: str = "off",
) -> Iterator[None]:
    """Has `serve` tell metrics on an address; without one on `otherwise`, if that is free. Raises
    NotConfigured where a given one is taken.
    """
    wanted = address or otherwise
    if wanted == "off":
        yield
        return
    with ExitStack() as stack:
        try:
            where = stack.enter_context(serve(wanted))
        except OSError as error:
            if address is not None:
                raise NotConfigured(f"cannot serve metrics on {wanted}: is it taken?") from error
            _log.warning("metrics are not served", extra={"address": wanted})
        else:
            _log.info("metrics are served", extra={"address": where})
        yield
