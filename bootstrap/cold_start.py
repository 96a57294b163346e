"""What a process needs of PostgreSQL before it can serve, and how it starts without it.

A machine that has served keeps what signs tokens beside its snapshots and the boards it knows. With
these a process starts while PostgreSQL is away, and looks at the schema as soon as that is back.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final

from bootstrap.errors import NotConfigured
from bootstrap.settings import TokenSettings
from bootstrap.state_files import replace_file
from core.errors import LedgerUnavailable
from storage.migrations import pending_migrations
from storage.pool import Pool, translated
from storage.signing_keys import signing_keys

_CONNECT_TIMEOUT_S: Final = 10.0
"""How long a start waits for PostgreSQL."""
_COLD_TIMEOUT_S: Final = 3.0
"""The same where it is able to do without."""
_LOOK_S: Final = 1.0
_SECRETS: Final = "signing_keys"

_log = logging.getLogger(__name__)


async def require_schema(pool: Pool, timeout_s: float = _CONNECT_TIMEOUT_S) -> None:
    """Raises NotConfigured where migrations are missing, LedgerUnavailable."""
    with translated():
        async with pool.connection(timeout_s) as connection:
            pending = await pending_migrations(connection)
    if pending:
        raise NotConfigured(f"the database lacks {', '.join(pending)}: run `standings migrate`")


async def begin(
    pool: Pool, settings: TokenSettings, directory: Path, *, boards_known: int
) -> tuple[list[bytes], bool]:
    """The secrets that sign tokens, and whether the schema has been looked at; the latter only
    where this machine knows boards that it can serve without PostgreSQL.

    Raises NotConfigured, LedgerUnavailable.
    """
    given = [
        secret.get_secret_value().encode()
        for secret in (settings.secret, settings.secret_before)
        if secret is not None
    ]
    kept = given or _kept_secrets(directory / _SECRETS)
    cold = bool(kept) and boards_known > 0
    try:
        await require_schema(pool, _COLD_TIMEOUT_S if cold else _CONNECT_TIMEOUT_S)
        secrets = given or await signing_keys(pool)
    except LedgerUnavailable:
        if not cold:
            raise
        _log.warning(
            "PostgreSQL is away: starting with what this machine knows",
            extra={"boards": boards_known},
        )
        return kept, False
    if not given:
        _keep_secrets(directory / _SECRETS, secrets)
    return secrets, True


async def look_later(pool: Pool) -> None:
    """Looks at the schema as soon as PostgreSQL answers, and ends then."""
    while True:
        await asyncio.sleep(_LOOK_S)
        try:
            await require_schema(pool, _LOOK_S)
        except LedgerUnavailable:
            continue
        except NotConfigured as error:
            _log.critical("the schema is not this version's", extra={"reason": str(error)})
            return
        _log.info("PostgreSQL is back, with the right schema")
        return


def _kept_secrets(path: Path) -> list[bytes]:
    try:
        return [bytes.fromhex(line) for line in path.read_text().split()]
    except (OSError, ValueError):
        return []


def _keep_secrets(path: Path, secrets: list[bytes]) -> None:
    if _kept_secrets(path) == secrets:
        return
    try:
        replace_file(path, "\n".join(secret.hex() for secret in secrets).encode(), sync=True)
    except OSError as error:
        _log.warning("what signs tokens cannot be kept", extra={"reason": error.strerror})
