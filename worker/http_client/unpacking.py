"""Bodies that came packed although the worker asks for none.

A small body may unpack to a large one, so none is asked for. Some gateways pack all the same, and
what they pass on is Mosaic's answer. One kind is unpacked, no further than a plain body may go.
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
