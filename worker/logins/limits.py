"""How often a browser may guess, and have codes sent: counted before the call, for all processes.

Parallel guesses would otherwise slip through together. A failure in an unknown browser counts for
all unknown browsers; a browser that its user has signed in with has its own count. Without Redis
nothing can be counted, and no browser may guess. That a count is full is written to the trail once.
"""

from __future__ import annotations

import ipaddress
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import redis
import structlog

from session_client.contract import LOGIN_LIFETIME, MAX_LIFETIME, Reason, Task
from worker import metrics
from worker.backchannel import networks
from worker.errors import HeldBack, LoginRefused
from worker.sessions import audit
from worker.sessions.audit import Cause
from worker.storage.encryption import Hashed
from worker.storage.redis_scripts import Call, read_script
from worker.wiring import Services

log = structlog.get_logger()

_COUNT: Final = read_script("worker.logins", "bucket", "count")
_LOOK: Final = read_script("worker.logins", "bucket", "look")
_GIVE_BACK: Final = read_script("worker.logins", "give_back")

_PREFIX: Final = "mosaic-sessions:sign-in"
_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE

WRONG_CODES_OF_A_HANDLE: Final = 5
FAILURES: Final = 5
FAILURES_OF_AN_ADDRESS: Final = 50
FAILURE_SECONDS: Final = 15 * _MINUTE
# To one identifier, over all apps; and from one address.
SENDS: Final = ((1, 30), (5, _HOUR), (15, 24 * _HOUR))
SENDS_OF_AN_ADDRESS: Final = 20

# That a request is counted is known for as long as its message may come again, and for a minute
# more: what is settled at its end may be taken back.
_COUNTED_SECONDS: Final = _MINUTE + int(
    max(MAX_LIFETIME[Task.START], MAX_LIFETIME[Task.AUTHENTICATE]).total_seconds()
)

UNKNOWN_BROWSER: Final = "unknown"
# What the Lua puts after the key of a full bucket once that is in the trail.
_SAID: Final = ":said"
_KEYS_A_LOOK: Final = 1000


class Limit(StrEnum):
    """What a count is of; the detail of its event, and the label of its metric."""

    HANDLE = "handle"  # wrong codes
    LOGIN = "login"  # failures under a name
    FACTOR = "factor"  # failures of a second factor
    ADDRESS = "address"  # failures from an address
    SENDS = "sends"  # to a name
    SENDS_OF_ADDRESS = "sends_of_address"


@dataclass(frozen=True, slots=True)
class Bucket:
    """A count that is full at *size* and empty again *seconds* after its first."""

    limit: Limit
    key: str
    size: int
    seconds: int
    is_final: bool = False  # what it counts is worn out when it is full


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesser:
    """Who tries to sign in, as far as the worker knows."""

    by: Cause
    user_id: str | None = None  # whose session a factor is to be added to
    # Keyed hash of the identifier they name; None where a passkey is to tell.
    subject: bytes | None
    is_second_factor: bool = False  # counted apart from passwords
    known_browser: str | None = None  # the id of its mark, if that names the subject
    origin: str | None = None  # of `origin_of`, where the app says from where they ask
    handle: str | None = None


def subject_of(services: Services, identifier_type: str, identifier: str) -> bytes:
    """Return the keyed hash of an identifier, alike for spellings that Mosaic may take for one."""
    text = unicodedata.normalize("NFKC", identifier).casefold().strip()
    if identifier_type == "phone_number":
        text = "".join(character for character in text if character.isdigit())
    return services.keyring.keyed_hash(Hashed.IDENTIFIER, f"{identifier_type}:{text}")


def origin_of(services: Services, address: str) -> str:
    """Return a keyed hash of an IP address: who reads Redis learns none of a user's."""
    return services.keyring.keyed_hash(Hashed.IDENTIFIER, f"address:{_network(address)}").hex()


def guesses(guesser: Guesser) -> tuple[Bucket, ...]:
    """Return what one proof is counted in."""
    buckets = []
    if guesser.handle is not None:
        key, seconds = f"handle:{guesser.handle}", int(LOGIN_LIFETIME.total_seconds())
        buckets.append(_bucket(Limit.HANDLE, key, WRONG_CODES_OF_A_HANDLE, seconds, is_final=True))
    if guesser.subject is not None:
        limit = Limit.FACTOR if guesser.is_second_factor else Limit.LOGIN
        key = f"failed:{limit}:{guesser.subject.hex()}:{guesser.known_browser or UNKNOWN_BROWSER}"
        buckets.append(_bucket(limit, key, FAILURES, FAILURE_SECONDS))
    if guesser.origin is not None:
        buckets.append(failures_of_address(guesser.by.app_id, guesser.origin))
    return tuple(buckets)


def sends(guesser: Guesser) -> tuple[Bucket, ...]:
    """Return what one code or link that is sent is counted in."""
    buckets = []
    if guesser.subject is not None:
        recipient = f"{guesser.subject.hex()}:{guesser.known_browser or UNKNOWN_BROWSER}"
        buckets += [
            _bucket(Limit.SENDS, f"sent:{recipient}:{seconds}", size, seconds)
            for size, seconds in SENDS
        ]
    if guesser.origin is not None:
        buckets.append(sends_of_address(guesser.origin))
    return tuple(buckets)


def look(services: Services, guesser: Guesser, buckets: Sequence[Bucket]) -> None:
    """Raise `LoginRefused` if one of *buckets* is full."""
    keys = [bucket.key for bucket in buckets]
    _run(services, guesser, buckets, Call(_LOOK, keys, _numbers(buckets)))


def count(services: Services, guesser: Guesser, buckets: Sequence[Bucket]) -> None:
    """Count the request of *guesser* once in each of *buckets*, however often its message comes.

    Raises `LoginRefused` if one is full: then it is counted in none. Were a message that comes
    again counted anew, its user would be told to wait for a code that was never sent.
    """
    arguments = [_COUNTED_SECONDS * 1000, *_numbers(buckets)]
    _run(services, guesser, buckets, Call(_COUNT, _marked(guesser, buckets), arguments))


def _numbers(buckets: Sequence[Bucket]) -> list[int]:
    return [number for bucket in buckets for number in (bucket.size, bucket.seconds * 1000)]


def give_back(services: Services, guesser: Guesser, buckets: Sequence[Bucket]) -> None:
    """Take back what `count` counted: it was no failure, or no code was sent."""
    if buckets:
        with suppress(redis.RedisError):  # then it counts until its time is over
            services.scripts.run_all(giving_back(guesser, buckets))


def of_subject(services: Services, subject: bytes) -> list[tuple[Bucket, str]]:
    """Return what is counted of an identifier or a user now, each with the browser it is of.

    Looks at each key of that Redis: for an operator who asks, not for a login. Raises
    `redis.RedisError`.
    """
    keys = services.redis.scan_iter(f"{_PREFIX}:*:{subject.hex()}:*", count=_KEYS_A_LOOK)
    found = {key.decode().removeprefix(f"{_PREFIX}:") for key in keys}  # Redis may name one twice
    return [counted for key in found for counted in _of_key(key)]


def failures_of_address(app_id: str | None, origin: str) -> Bucket:
    """Return what the failures from an IP address at an app are counted in."""
    key = f"failed:address:{app_id}:{origin}"
    return _bucket(Limit.ADDRESS, key, FAILURES_OF_AN_ADDRESS, FAILURE_SECONDS)


def sends_of_address(origin: str) -> Bucket:
    """Return what the codes and links that an IP address asks for are counted in."""
    key = f"sent:address:{origin}"
    return _bucket(Limit.SENDS_OF_ADDRESS, key, SENDS_OF_AN_ADDRESS, _HOUR)


def counted(services: Services, bucket: Bucket) -> tuple[int, float]:
    """Return what a bucket counts, and in how many seconds it is empty by itself.

    Raises `redis.RedisError`.
    """
    count: Any = services.redis.get(bucket.key)
    milliseconds: Any = services.redis.pttl(bucket.key)
    return int(count or 0), max(0, milliseconds) / 1000


def lift(services: Services, buckets: Iterable[Bucket]) -> None:
    """Empty *buckets*; one that is full again is told of again. Raises `redis.RedisError`."""
    services.redis.delete(*(f"{bucket.key}{end}" for bucket in buckets for end in ("", _SAID)))


def giving_back(guesser: Guesser, buckets: Sequence[Bucket]) -> Call:
    """Return what `give_back` does, to go to Redis with the answer."""
    return Call(_GIVE_BACK, _marked(guesser, buckets), [])


def _marked(guesser: Guesser, buckets: Sequence[Bucket]) -> list[str]:
    """Return the key that says that the request is counted, and those of *buckets*."""
    mark = f"{_PREFIX}:counted:{guesser.by.app_id}:{guesser.by.correlation_id}"
    return [mark, *(bucket.key for bucket in buckets)]


def _run(services: Services, guesser: Guesser, buckets: Sequence[Bucket], call: Call) -> None:
    if not buckets:
        return
    try:
        ((full, milliseconds, is_first),) = services.scripts.run_all(call)
    except redis.RedisError:
        raise HeldBack("limits: Redis does not answer", Reason.RATE_LIMITED, 1.0) from None
    if full:
        bucket = buckets[full - 1]
        if is_first and bucket.seconds > _MINUTE:  # a user who asks for a code twice is no news
            _say(services, guesser, bucket.limit)
        seconds = None if bucket.is_final else max(1.0, milliseconds / 1000)
        raise LoginRefused(Reason.TOO_MANY_ATTEMPTS, retry_after=seconds)


def _say(services: Services, guesser: Guesser, limit: Limit) -> None:
    """Tell operators that a browser has come to a limit: once for as long as it holds.

    Each attempt would let a flood fill the trail. Nothing names who it was: only what an app said.
    """
    metrics.sign_in_limited(limit)
    log.warning("sign_in_limited", limit=limit.value, app=guesser.by.app_id)
    row = audit.event(
        audit.SIGN_IN_LIMITED,
        at=services.now(),
        session=None,
        user_id=guesser.user_id,
        by=guesser.by,
        detail=limit.value,
    )
    with services.store.write() as connection:
        audit.record(connection, [row])


def _bucket(limit: Limit, key: str, size: int, seconds: int, *, is_final: bool = False) -> Bucket:
    return Bucket(limit, f"{_PREFIX}:{key}", size, seconds, is_final)


def _of_key(key: str) -> Iterator[tuple[Bucket, str]]:
    """Yield the bucket under *key* and its browser; nothing for the mark that one was full."""
    match key.split(":"):
        case ["failed", limit, _, browser]:
            yield _bucket(Limit(limit), key, FAILURES, FAILURE_SECONDS), browser
        case ["sent", _, browser, seconds]:
            sizes = {length: size for size, length in SENDS}
            yield _bucket(Limit.SENDS, key, sizes[int(seconds)], int(seconds)), browser


def _network(address: str) -> str:
    """Return what one client has to itself: an IPv4 address, a /64 of IPv6, or the text.

    An IPv4 address counts as itself also where IPv6 carries it, as a server that listens on both
    writes it: one /64 holds all that are carried, and one attacker would lock out everybody.
    """
    try:
        parsed = networks.carried(ipaddress.ip_address(address))
    except ValueError:
        return address
    if parsed.version == 6:  # noqa: PLR2004
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
