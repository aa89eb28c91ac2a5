"""What lies behind an error of the broker: a type's name, never its text.

A text may quote the URL, and so the password; but without the name a wrong password, an unknown
host and a broker that is down all look alike.
"""

from __future__ import annotations

from typing import Final

import redis

# What redis-py puts around the error that tells something. Their subclasses tell, too.
_WRAPPERS: Final = (redis.ConnectionError, redis.TimeoutError)


def name_of(error: BaseException) -> str:
    """Return the type of what *error* wraps: ``AuthenticationError``, ``gaierror`` and so on."""
    while type(error) in _WRAPPERS:
        inner = error.__cause__ or error.__context__
        if not isinstance(inner, (OSError, redis.RedisError)):
            break
        error = inner
    return type(error).__name__


def is_timeout(error: BaseException) -> bool:
    """Whether nothing came in time."""
    return isinstance(error, (redis.TimeoutError, TimeoutError))
