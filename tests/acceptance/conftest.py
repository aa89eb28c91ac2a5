"""What holds for every acceptance test."""

from __future__ import annotations

from tests.acceptance.client_rig import patient_publishers

__all__ = ["patient_publishers"]  # a fixture that nobody need name
