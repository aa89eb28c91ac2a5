"""What Mosaic's own pages say of every call: one table, for the simulator and for tests.

The simulator accepts a request that fits its line and refuses any other; what it answers is held
against the same line. Where the pages are silent or contradict each other, a comment says so.
"""

from __future__ import annotations

from simulator.idp.contract import codes, devices, people, sessions
from simulator.idp.contract.model import FIRST_ERROR, Caller, Published
from simulator.idp.endpoints import Endpoint

__all__ = ["FIRST_ERROR", "PUBLISHED", "Caller", "Published"]

PUBLISHED: dict[Endpoint, Published] = {
    published.endpoint: published
    for published in (*sessions.CALLS, *codes.CALLS, *devices.CALLS, *people.CALLS)
}
