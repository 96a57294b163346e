"""The sizes of docs/sizing.md: reckoned by hand here, and current there."""

from pathlib import Path

import pytest

from bench.sizing import FIGURES, CallCost, Figures, Load, size_for, table

_PAGE = Path(__file__).parents[3] / "docs/sizing.md"
_ROUND = Figures(
    submit=CallCost(600, postgres_us=300, redis_us=100),
    get_entry=CallCost(300, redis_us=100),
    first_page=CallCost(100),
    redis_entry_bytes=2**10,
    rebuilt_entries_per_s=2**17,
    postgres_entry_bytes=2**10,
    postgres_event_bytes=2**10,
    wal_bytes=2**10,
)


def test_a_load_reckoned_by_hand() -> None:
    """2,000 submissions of 600 us, 4,000 ranks of 300 and 6,000 pages of 100 are 3 cores busy."""
    size = size_for(Load(2**20, 2_000, 4_000, 6_000), _ROUND)

    assert size.server_cores == 5  # 1.2 + 1.2 + 0.6 = 3.0 of 0.6 each
    assert size.postgres_cores == 2  # 0.6 of 0.6, and never less than 2
    assert size.redis_primaries == 3  # 0.6 busy in all, 6 of 16 shards on one: 0.225
    assert size.redis_node_gib == pytest.approx(2 * 6 / 16)  # 1 GiB, twice, its share
    assert size.postgres_disk_gib == pytest.approx(1 + 2_000 * 86_400 * 8 / 2**20)
    assert size.wal_mib_per_s == pytest.approx(2_000 / 2**10)
    assert size.rebuild_s == pytest.approx(8)
    assert (size.connections, size.pooler) == (60, False)


@pytest.mark.parametrize(
    ("load", "primaries"),
    [
        (Load(2**20, 0, 12_000, 0), 3),  # 1.2 busy, 0.45 on one
        (Load(2**20, 0, 15_000, 0), 4),  # 1.5 busy, 0.375 on one of four
        (Load(2**20, 0, 30_000, 0), 8),
        (Load(2**20, 0, 60_000, 0), 16),
        (Load(2**25, 0, 0, 0), 3),  # 64 GiB, 24 on one
        (Load(2**26, 0, 0, 0), 8),  # 128 GiB, 32 on one of four
    ],
)
def test_nodes_by_load_and_by_memory(load: Load, primaries: int) -> None:
    """The fewest of which none is too busy or too big."""
    assert size_for(load, _ROUND).redis_primaries == primaries


def test_more_is_never_less() -> None:
    """Of every load twice as much takes at least as much of everything."""
    for figures in FIGURES.values():
        small = size_for(Load(10**6, 10**3, 10**3, 10**3), figures)
        large = size_for(Load(2 * 10**6, 2 * 10**3, 2 * 10**3, 2 * 10**3), figures)

        for name in type(small).__slots__:
            assert getattr(small, name) <= getattr(large, name)


def test_the_page_is_current() -> None:
    """Its table is what the figures give."""
    assert table() in _PAGE.read_text()
