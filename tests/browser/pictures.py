"""Where the pictures go that the tests take: into docs/ only where somebody asks for new ones.

No two runs draw the same times and numbers, and a checkout must stay as it is when it is tested.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from sandbox.environment import is_asked_for_pictures

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"


def picture(name: str) -> Path | None:
    """Return the file that a picture of this name is for; None where it is taken and not kept."""
    return IMAGES / f"{name}.png" if is_asked_for_pictures() else None
