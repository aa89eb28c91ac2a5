"""The operators' commands: `mosaic-sessions`."""

from __future__ import annotations

from worker.cli.root import main

__all__ = ["main"]
