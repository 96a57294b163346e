"""The names of the function library."""

from __future__ import annotations

from sharding.library import Library


def test_another_source_has_other_names() -> None:
    """Two versions can be loaded side by side; the same source is the same library."""
    one, same, other = (Library.of([text]) for text in (b"a", b"a", b"b"))

    assert one == same
    assert one.prefix != other.prefix
    assert one.source.split()[1] != other.source.split()[1]


def test_commands_name_the_function_and_count_the_keys() -> None:
    """Keys before arguments, as FCALL wants them."""
    library = Library.of([b"a"])

    assert library.write("f", [b"k"], [1, b"x"]) == (
        b"FCALL",
        library.prefix + b"f",
        1,
        b"k",
        1,
        b"x",
    )
    assert library.read("f", [], [1]) == (b"FCALL_RO", library.prefix + b"f", 0, 1)
