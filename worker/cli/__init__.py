"""The operators' verbs: `mosaic-sessions`."""

from __future__ import annotations

from worker.cli.root import main

__all__ = ["main"]
