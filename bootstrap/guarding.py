"""The breakers of a process, and what finds out that they may close."""

from __future__ import annotations

import random
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from bootstrap.errors import NotConfigured
from resilience.breakers import Breakers
from resilience.faults import Faults
from resilience.machine import MachineBusy, MachineFile
from resilience.observer import Observer
from resilience.overrides import Overrides
from resilience.prober import Probe, Prober
from sharding.guards import REDIS_BREAKERS, breaker_name
from sharding.keys import SHARDS
from sharding.router import Router
from storage.guarding import POSTGRES_BREAKERS, replica_breakers
from storage.pool import Pool


def open_machine(directory: Path, *, replicas: int = 0) -> MachineFile:
    """What operators want of the breakers of this machine, and what these are, with so many
    replicas of PostgreSQL. Raises NotConfigured.
    """
    breakers = {*REDIS_BREAKERS, *POSTGRES_BREAKERS, *replica_breakers(replicas)}
    parents = {name.partition("/")[0] for name in breakers}
    try:
        return MachineFile(directory, sorted(breakers | parents))
    except MachineBusy as error:
        raise NotConfigured(f"a frozen process holds what is in {directory}") from error
    except OSError as error:
        raise NotConfigured(f"no state can be kept in {directory}: {error.strerror}") from error


def make_breakers(
    overrides: Overrides, faults: Faults, observer: Observer | None, *, replicas: int = 0
) -> Breakers:
    """One for each shard of the index, each pool of PostgreSQL and each of so many replicas."""
    return Breakers(
        {**REDIS_BREAKERS, **POSTGRES_BREAKERS, **replica_breakers(replicas)},
        rng=random.Random(),  # noqa: S311  # jitter and chance only
        overrides=overrides,
        faults=faults,
        observer=observer,
    )


def make_prober(breakers: Breakers, router: Router, pools: Mapping[str, Pool]) -> Prober:
    """Asks what the breakers guard, and does so past them. `pools` by the names of theirs."""
    probes: dict[str, Probe] = {
        breaker_name(shard): partial(router.probe, shard) for shard in SHARDS
    }
    probes |= {name: pool.probe for name, pool in pools.items()}
    return Prober(breakers, probes)
