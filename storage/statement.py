"""SQL with named parameters, translated to PostgreSQL's own placeholders once.

psycopg does this at every execution for texts past 4,096 characters, which cost the ledger's
statement a third of a millisecond a flush.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final, Self

_PARAMETER: Final = re.compile(r"%\((\w+)\)s")


@dataclass(frozen=True, slots=True)
class Statement:
    """A text with $1, $2, ... and the names that they stand for. Its own name is one that no other
    text has: a connection keeps it prepared under that.
    """

    text: bytes
    names: tuple[str, ...]
    name: bytes = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(self.text).hexdigest()
        object.__setattr__(self, "name", f"standings_{digest[:16]}".encode())

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
