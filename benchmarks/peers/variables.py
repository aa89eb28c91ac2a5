"""What the peers read from the environment: they are programs of their own."""

from __future__ import annotations

import os
from typing import Final

DATABASE_URL: Final = "PEER_DATABASE_URL"
MOSAIC_URL: Final = "PEER_MOSAIC_URL"


def variable(name: str) -> str:
    """Return a variable that must be set."""
    return os.environ[name]  # noqa: TID251 - the ban is about the product's settings
