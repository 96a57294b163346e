"""SQL with named parameters, translated to PostgreSQL's own placeholders once.

psycopg does this at every execution for texts past 4,096 characters, which cost the ledger's
statement a third of a millisecond a flush.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final, Self

_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """A text with $1, $2, ... and the names that they stand for."""

    text: bytes
    names: tuple[str, ...]

    @classmethod
    def of(cls, text: str) -> Self:
        """The statement behind a text with %(name)s parameters; no other % is special."""
        names = tuple(dict.fromkeys(_PARAMETER.findall(text)))
        numbers = {name: number for number, name in enumerate(names, start=1)}
        numbered = _PARAMETER.sub(lambda match: f"${numbers[match[1]]}", text)
        return cls(numbered.encode(), names)

    @classmethod
    def load(cls, name: str) -> Self:
        """The statement of storage/sql/<name>.sql."""
        return cls.of(files("storage").joinpath("sql", f"{name}.sql").read_text())

    def arguments(self, parameters: Mapping[str, Any]) -> list[Any]:
        """The parameters in the order of the placeholders."""
        return [parameters[name] for name in self.names]
