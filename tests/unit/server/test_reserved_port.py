"""Ports that are held for workers."""

from __future__ import annotations

import socket
import threading

import pytest

from server.reserved_port import PortTaken, reserved


def _listening(address: str, *, shared: bool) -> socket.socket:
    host, _, port = address.rpartition(":")
    listener = socket.socket()
    if shared:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listener.bind((host, int(port)))
    except OSError:
        listener.close()
        raise
    listener.listen()
    return listener


def test_a_free_port_is_chosen_and_shared() -> None:
    """Several may listen on it together, and no connection goes to who only holds it."""
    with (
        reserved("127.0.0.1:0") as address,
        _listening(address, shared=True) as first,
        _listening(address, shared=True) as second,
    ):
        host, _, port = address.rpartition(":")
        connections = [socket.create_connection((host, int(port)), timeout=5) for _ in range(20)]
        first.setblocking(False)
        second.setblocking(False)
        accepted = 0
        for listener in (first, second):
            try:
                while True:
                    listener.accept()[0].close()
                    accepted += 1
            except BlockingIOError:
                pass
        for connection in connections:
            connection.close()

    assert accepted == 20


def test_nobody_else_gets_it() -> None:
    """Who wants the port alone is told that it is taken."""
    with reserved("127.0.0.1:0") as address, pytest.raises(OSError, match="in use"):
        _listening(address, shared=False)


@pytest.mark.parametrize("shared", [True, False])
def test_a_taken_port(*, shared: bool) -> None:
    """One who listens there is noticed, also one who would share the port."""
    with _listening("127.0.0.1:0", shared=shared) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(PortTaken, match=address), reserved(address):
            pass


def test_patience() -> None:
    """A port that becomes free in time is waited for."""
    listener = _listening("127.0.0.1:0", shared=True)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    end = threading.Timer(0.3, listener.close)
    end.start()
    with reserved(address, patience_s=10) as held:
        assert held == address
    end.join()


@pytest.mark.parametrize("address", ["localhost:0", "0.0.0.0:0"])
def test_names_and_everywhere(address: str) -> None:
    """A name is resolved, and both of its addresses get the same port."""
    with reserved(address) as held:
        host, _, port = held.rpartition(":")
        assert host == address.rpartition(":")[0]
        assert int(port) > 0


def test_no_address_of_ours() -> None:
    """An address of another machine cannot be held."""
    with pytest.raises(PortTaken), reserved("192.0.2.1:0"):
        pass
