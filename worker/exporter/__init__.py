"""Shows to Prometheus what this worker counts, and what holds for the whole installation."""

from __future__ import annotations

from worker.exporter.step import Exporter

__all__ = ["Exporter"]
