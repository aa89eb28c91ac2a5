"""What we may ask of Mosaic, and when: decided for all processes together, in Redis.

Budgets, pauses, a circuit breaker, and one call for identical requests. All of it is courtesy and
speed, never correctness: while Redis does not answer, each process calls as it must.
"""

from __future__ import annotations

from worker.traffic.admission import Permit
from worker.traffic.budgets import Application, Lane
from worker.traffic.single_flight import CallPlan, InProgress, Lead, SharedAnswer, Superseded
from worker.traffic.snapshot import BreakerState, BudgetLeft, PauseState, TrafficState
from worker.traffic.traffic import Traffic, name_of_user, wait_for_turn

__all__ = [
    "Application",
    "BreakerState",
    "BudgetLeft",
    "CallPlan",
    "InProgress",
    "Lane",
    "Lead",
    "PauseState",
    "Permit",
    "SharedAnswer",
    "Superseded",
    "Traffic",
    "TrafficState",
    "name_of_user",
    "wait_for_turn",
]
