"""Private ports."""

from __future__ import annotations

import socket

from sandbox.ports import HOST, PRIVATE_PORTS, free_port


def test_no_port_is_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == len(ports)


def test_a_port_lies_below_those_of_outgoing_connections_and_is_nobodys() -> None:
    port = free_port()

    assert port in PRIVATE_PORTS
    with socket.socket() as listener:
        listener.bind((HOST, port))
