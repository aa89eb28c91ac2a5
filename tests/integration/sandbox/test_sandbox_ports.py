"""Private ports."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from sandbox import ports
from sandbox.environment import base_variables
from sandbox.ports import HOST, PRIVATE_PORTS, free_port
from sandbox.processes import ManagedProcess


def test_no_port_is_handed_out_twice() -> None:
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == len(ports)


def test_a_port_lies_below_those_of_outgoing_connections_and_is_nobodys() -> None:
    port = free_port()

    assert port in PRIVATE_PORTS
    with socket.socket() as listener:
        listener.bind((HOST, port))


def test_a_port_given_to_another_process_is_not_ours_until_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
import time
from sandbox.ports import free_port
print("given", free_port(), flush=True)
time.sleep(600)
"""
    with ManagedProcess(
        [sys.executable, "-c", code],
        environment={**base_variables(), "PYTHONPATH": str(Path(__file__).parents[3])},
        log_path=tmp_path / "log",
    ) as process:
        port = int(process.wait_for_line("given").split()[1])
        monkeypatch.setattr(ports, "PRIVATE_PORTS", range(port, port + 1))

        with pytest.raises(RuntimeError, match="no free private port"):
            free_port()  # though nobody listens there
        process.kill()

    assert free_port() == port
