"""Brings ghz to where the benchmark looks for it, in the version that it wants.

python -m tests.programs.get_ghz
"""

import asyncio
import sys

from bench.errors import BenchFailed
from bench.ghz import find_ghz
from bench.program import GHZ_FOLDER

if __name__ == "__main__":
    try:
        print(asyncio.run(find_ghz(GHZ_FOLDER)))  # noqa: T201
    except BenchFailed as error:
        sys.exit(str(error))
