"""A throw-away cluster of three primaries, each with a replica, on free local ports."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import redis

_RANGES = ((0, 5460), (5461, 10921), (10922, 16383))
_NODE_TIMEOUT_MS = 2000


class LocalNode:
    """One server process and a plain client to it."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.port, bus_port = _free_ports(2)
        self.client = redis.Redis(port=self.port, socket_timeout=10, protocol=2)
        folder.mkdir(parents=True)
        options = {
            "port": self.port,
            "bind": "127.0.0.1",
            "cluster-enabled": "yes",
            "cluster-port": bus_port,
            "cluster-node-timeout": _NODE_TIMEOUT_MS,
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": 0,
            "repl-diskless-sync-delay": 0,
            # A replica is listed in CLUSTER SLOTS after its first replicated byte.
            "repl-ping-replica-period": 1,
            "save": "",
            "appendonly": "no",
            "dir": folder,
        }
        words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [str(binary), *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    @property
    def address(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    def run(self, *command: Any) -> Any:
        """The raw reply to a command."""
        return self.client.execute_command(*command)

    def node_id(self) -> str:
        """The name of the node within its cluster."""
        return _text(self.run("CLUSTER", "MYID"))

    def is_primary(self) -> bool:
        """Whether the node says so itself."""
        return _text(self.run("ROLE")[0]) == "master"

    def kill(self) -> None:
        """Ends the process with no chance to say goodbye."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def close(self) -> None:
        """Ends the process and the client."""
        self.client.close()
        self.kill()


class LocalCluster:
    """Six nodes that know each other; close it when done."""

    def __init__(self, binary: Path, folder: Path) -> None:
        self.nodes = [LocalNode(binary, folder / str(number)) for number in range(6)]
        self.primaries = self.nodes[:3]
        try:
            self._join()
        except BaseException:
            self.close()
            raise

    def _join(self) -> None:
        for node in self.nodes:
            wait_until(lambda node=node: _answers(node))
        for epoch, (node, slots) in enumerate(zip(self.primaries, _RANGES, strict=True), 1):
            node.run("CLUSTER", "ADDSLOTSRANGE", *slots)
            node.run("CLUSTER", "SET-CONFIG-EPOCH", epoch)
        for node in self.nodes[1:]:
            node.run("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port, self._bus_port(0))
        wait_until(lambda: all(_knows(node, 6) for node in self.nodes))
        for primary, replica in zip(self.primaries, self.nodes[3:], strict=True):
            replica.run("CLUSTER", "REPLICATE", primary.node_id())
        wait_until(lambda: all(_whole(node) for node in self.nodes))
        wait_until(lambda: all(b"up" in _link(node) for node in self.nodes[3:]))

    def _bus_port(self, number: int) -> int:
        line = next(
            line
            for line in _text(self.nodes[number].run("CLUSTER", "NODES")).splitlines()
            if "myself" in line
        )
        return int(line.split()[1].partition("@")[2].partition(",")[0])

    @property
    def addresses(self) -> tuple[str, ...]:
        """The primaries, as seeds for a router."""
        return tuple(node.address for node in self.primaries)

    def owner(self, slot: int) -> LocalNode:
        """The primary of a slot, as the first node that answers sees it."""
        for node in self.nodes:
            try:
                port = _owner_port(node, slot)
            except redis.ConnectionError:
                continue
            return next(other for other in self.nodes if other.port == port)
        raise LookupError("no node answers")

    def flush(self) -> None:
        """Empties every primary."""
        for node in self.nodes:
            if node.is_primary():
                node.run("FLUSHALL")

    def start_move(self, slot: int, source: LocalNode, target: LocalNode) -> None:
        """Opens a slot for a classic migration."""
        target.run("CLUSTER", "SETSLOT", slot, "IMPORTING", source.node_id())
        source.run("CLUSTER", "SETSLOT", slot, "MIGRATING", target.node_id())

    def move_keys(self, source: LocalNode, target: LocalNode, keys: Sequence[bytes]) -> None:
        """Moves keys of an open slot."""
        source.run("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)

    def end_move(self, slot: int, target: LocalNode) -> None:
        """Gives an open slot to a node, the new owner first."""
        name = target.node_id()
        target.run("CLUSTER", "SETSLOT", slot, "NODE", name)
        for node in self.nodes:
            if node is not target and node.is_primary():
                node.run("CLUSTER", "SETSLOT", slot, "NODE", name)

    def give_back(self, slot: int, owner: LocalNode) -> None:
        """Ends a move of an empty slot, wherever it stands, with the slot at its old owner."""
        holder = self.owner(slot)
        for node in self.primaries:
            node.run("CLUSTER", "SETSLOT", slot, "STABLE")
        if holder is not owner:
            # As a move of its own: only an import gives the owner the epoch that the others heed.
            self.start_move(slot, holder, owner)
            self.end_move(slot, owner)
        wait_until(lambda: all(_owner_port(node, slot) == owner.port for node in self.nodes))

    def close(self) -> None:
        """Ends all processes."""
        for node in self.nodes:
            node.close()


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    """Returns when a condition holds; fails when it does not in time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.02)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def _answers(node: LocalNode) -> bool:
    try:
        return bool(node.run("PING"))
    except redis.ConnectionError:
        return False


def _knows(node: LocalNode, count: int) -> bool:
    return f"cluster_known_nodes:{count}" in _text(node.run("CLUSTER", "INFO"))


def _whole(node: LocalNode) -> bool:
    info = _text(node.run("CLUSTER", "INFO"))
    rows = node.run("CLUSTER", "SLOTS")
    return (
        "cluster_state:ok" in info
        and "cluster_slots_ok:16384" in info
        and len(rows) == 3
        and all(len(row) == 4 for row in rows)
    )


def _owner_port(node: LocalNode, slot: int) -> int:
    rows = node.run("CLUSTER", "SLOTS")
    return int(next(row[2][1] for row in rows if row[0] <= slot <= row[1]))


def _link(node: LocalNode) -> bytes:
    return str(node.client.info("replication").get("master_link_status")).encode()


def _text(reply: Any) -> str:
    return reply.decode() if isinstance(reply, bytes) else str(reply)
