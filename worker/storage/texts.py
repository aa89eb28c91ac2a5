"""Which texts of others can be stored and logged."""

from __future__ import annotations

import unicodedata
from typing import Final

MAX_USER_ID_CHARACTERS: Final = 255


def is_storable(text: str) -> bool:
    """Whether a text is stored and logged as it is.

    PostgreSQL refuses NUL and no database takes half a surrogate pair; control characters in an
    identifier are an attack on our logs.
    """
    if text.isprintable():  # the shorter look: an ID token has a thousand characters
        return True
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in text)
