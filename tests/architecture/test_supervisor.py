"""What the supervisor of `standings serve` may load."""

import subprocess
import sys

THREADED = ("google", "grpc", "grpc_health", "standings")


def test_the_supervisor_loads_no_grpc() -> None:
    """All that it imports, one way or another, is free of gRPC, whose threads and locks belong
    into workers that may crash.
    """
    program = f"""
import sys, cli.__main__, cli.supervising
loaded = set({THREADED}) & set(sys.modules)
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-P", "-c", program], check=True)
