"""What we may ask of Mosaic, and when: decided for all processes together, in Redis.

Budgets, pauses, a circuit breaker, and one call for identical requests. All of it is courtesy and
speed, never correctness: while Redis does not answer, each process calls as it must.
"""

from __future__ import annotations

from worker.traffic.admission import Permit
from worker.traffic.budgets import Application, Lane
from worker.traffic.single_flight import Flight, FlightPlan, Flying, Landed, Superseded
from worker.traffic.snapshot import BreakerState, BudgetLeft, PauseState, TrafficState
from worker.traffic.traffic import Traffic

__all__ = [
    "Application",
    "BreakerState",
    "BudgetLeft",
    "Flight",
    "FlightPlan",
    "Flying",
    "Landed",
    "Lane",
    "PauseState",
    "Permit",
    "Superseded",
    "Traffic",
    "TrafficState",
]
