"""What the client costs an app by itself: a crowd that no worker answers, and its import."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from benchmarks.figures import Crowd, Import
from sandbox.ports import HOST
from sandbox.proxy import FaultProxy
from sandbox.redis_server import RedisServer
from session_client import AppKey
from tests.certificates import make_certificate, server_context

_ROUNDS: Final = 5
_TELL: Final = """
import time
used = time.process_time() * 1000
[pages] = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmRSS")]
print(used, int(pages) / 1024)
"""
_BARE: Final = "import redis\n"
_OURS: Final = f"""
from session_client import SessionClient
SessionClient(broker_url="redis://nobody", app_id="shop", app_key="{AppKey.generate().text()}")
"""


def crowds() -> list[Crowd]:
    """Measure plain and behind TLS."""
    found = []
    with tempfile.TemporaryDirectory() as folder, RedisServer() as server:
        certificate = make_certificate(Path(folder), HOST)
        with FaultProxy(HOST, server.port, tls=server_context(certificate)) as door:
            tls = f"rediss://{HOST}:{door.port}/0?ssl_ca_certs={certificate}"
            for name, url in (("plain", server.url()), ("TLS", tls)):
                rounds = [_crowd(url) for _ in range(_ROUNDS)]
                median = {key: statistics.median(each[key] for each in rounds) for key in rounds[0]}
                crowd = Crowd(broker=name, **median)
                found.append(crowd)
                sys.stderr.write(f"  crowd    {crowd}\n")
    return found


def _crowd(url: str) -> dict[str, float]:
    figures: dict[str, float] = json.loads(_run("-m", "benchmarks.crowd", url))
    return figures


def imports() -> list[Import]:
    """Measure the import, with a client made, beside that of redis-py alone; in turns."""
    bare: list[list[float]] = []
    ours: list[list[float]] = []
    for _ in range(_ROUNDS):
        for script, found in ((_BARE, bare), (_OURS, ours)):
            found.append([float(word) for word in _run("-c", script + _TELL).split()])
    cpu, memory = (
        statistics.median(each[i] for each in ours) - statistics.median(each[i] for each in bare)
        for i in (0, 1)
    )
    measured = Import(cpu_ms=cpu, memory_mib=memory)
    sys.stderr.write(f"  import   {measured}\n")
    return [measured]


def _run(*arguments: str) -> str:
    return subprocess.check_output([sys.executable, *arguments], text=True)
