"""House rules that no linter knows."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "bench",
    "bootstrap",
    "chaos",
    "cli",
    "core",
    "jobs",
    "resilience",
    "server",
    "sharding",
    "storage",
)
FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 500
SHAPELESS = {"common", "helper", "helpers", "misc", "util", "utils"}

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def _sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in ROOT.joinpath(folder).rglob("*.py"))


OURS = _sources(*ROOMS, "clients/python/src")
ALL = OURS + _sources("tests")


def _where(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _public_definitions(node.body, f"{prefix}{node.name}.")


def test_there_is_something_to_check() -> None:
    """The rules below look at real files."""
    assert len(OURS) > len(ROOMS)


def test_functions_are_short() -> None:
    """A function fits on a screen or two."""
    long = [
        f"{_where(path)}:{node.lineno} {node.name}"
        for path in ALL
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]

    assert long == []


def test_files_are_short() -> None:
    """A file can be read in one go."""
    assert [] == [
        _where(path) for path in ALL if len(path.read_text().splitlines()) > FILE_LINES_MAX
    ]


def test_every_module_has_a_subject() -> None:
    """No module is a drawer for everything."""
    assert [] == [_where(path) for path in ALL if SHAPELESS & {path.stem, path.parent.name}]


def test_public_names_are_explained() -> None:
    """Every module, and every public class, function and method, says what it gives."""
    silent = [
        f"{_where(path)} {name}"
        for path in OURS
        for name, node in [("", _tree(path)), *_public_definitions(_tree(path).body)]
        if ast.get_docstring(node) is None
    ]

    assert silent == []


def test_tests_are_explained() -> None:
    """Every test says in one sentence what it shows."""
    silent = [
        f"{_where(path)}: {node.name}"
        for path in _sources("tests")
        for node in ast.walk(_tree(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and ast.get_docstring(node) is None
    ]

    assert silent == []


def test_what_is_left_to_do_has_an_issue() -> None:
    """A TODO names its issue, so that somebody will come back to it."""
    todo = re.compile(r"#.*\b(TODO|FIXME|XXX)\b(?!\(#\d+\))")
    homeless = [
        f"{_where(path)}:{number}"
        for path in OURS
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if todo.search(line)
    ]

    assert homeless == []
