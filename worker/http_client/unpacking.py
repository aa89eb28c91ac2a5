"""Bodies that came packed although nobody asked for it.

We ask for none: a small body may unpack to a large one. Some gateways pack all the same, and their
answer is no less Mosaic's for it; so one kind is unpacked, and no further than a plain body might
have gone.
"""

from __future__ import annotations

import zlib
from typing import Final

_GZIP: Final = frozenset({"gzip", "x-gzip"})  # RFC 9110 section 8.4.1.3: both are the same
_GZIP_WINDOW: Final = zlib.MAX_WBITS | 16


def unpacked(body: bytes, encoding: str, max_bytes: int) -> bytes | None:
    """Return *body* as it was before it was packed; None when it is too large, or not whole."""
    if not encoding or not body:
        return body
    if encoding not in _GZIP:
        return None
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        plain = inflater.decompress(body, max_bytes + 1)
    except zlib.error:
        return None
    return plain if inflater.eof and len(plain) <= max_bytes else None
