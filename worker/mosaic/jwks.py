"""Mosaic's signing keys: kept for a while, fetched again when a token names one we do not know.

That second fetch is limited in rate. Without the limit a forged ``kid`` would be a way to make us
hammer Mosaic.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import structlog
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from worker.errors import MosaicContractBroken, OperatorMustAct, TryLater
from worker.http_client import http_date
from worker.mosaic import reading
from worker.mosaic.asked import Endpoint
from worker.mosaic.deadline import Deadline
from worker.mosaic.failed_fetch import FAILURE_SECONDS, HANGS_SECONDS, FailedFetch, counts
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import MosaicHttp

RSA_ALGORITHMS: Final = frozenset({"RS256", "PS256"})
EC_ALGORITHMS: Final = frozenset({"ES256"})
SMALLEST_RSA_BITS: Final = 2048
LARGEST_RSA_BITS: Final = 8192  # verifying with more is slow enough to be an attack
LARGEST_EXPONENT_BITS: Final = 32  # likewise; in practice it is 65537
MAX_KEYS: Final = 64
# Mosaic, or a proxy before it, is not obeyed for longer when it asks for a pause: a process without
# keys lets no user sign in meanwhile, and one with old keys rejects what is signed with a new one.
# A call in half a minute is no burden.
MAX_FAILURE_SECONDS: Final = 30.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """One public key and the algorithms it may be used with."""

    kid: str | None
    algorithms: frozenset[str]
    named_algorithm: str | None
    key: RSAKey | ECKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one JWKS."""

    keys: tuple[VerificationKey, ...]

    def fitting(self, kid: str | None, algorithm: str) -> tuple[VerificationKey, ...]:
        """Return the keys a token may be signed with.

        Where token or key has no *kid*, it is the only key there is, or none: trying several would
        let a token choose. Where *kid* does not decide, a key that names another algorithm counts
        only if no key names *algorithm* or none.
        """
        fitting = tuple(key for key in self.keys if algorithm in key.algorithms)
        named = tuple(key for key in fitting if kid is not None and key.kid == kid)
        if named:
            return _preferred(named, algorithm)
        only = _preferred(fitting, algorithm)
        is_certain = len(only) == 1 and (kid is None or only[0].kid is None)
        return only if is_certain else ()


def _preferred(keys: tuple[VerificationKey, ...], algorithm: str) -> tuple[VerificationKey, ...]:
    """Return those of *keys* that name *algorithm* or none; all of them where there is none."""
    return tuple(key for key in keys if key.named_algorithm in {None, algorithm}) or keys


class KeySets:
    """The key set behind each JWKS URL. Safe for all threads."""

    def __init__(
        self,
        http: MosaicHttp,
        faults: Faults,
        now: Callable[[], datetime],
        *,
        max_age_seconds: float,
        refetch_seconds: float,
    ) -> None:
        self._http = http
        self._faults = faults
        self._now = now
        self._max_age = max_age_seconds
        self._refetch_after = refetch_seconds
        self._slots: dict[str, _Slot] = {}
        self._slots_lock = threading.Lock()

    def current(self, url: str, deadline: Deadline) -> KeySet:
        """Return the keys at *url*, fetched when they are too old.

        Old keys are better than none: they go on while Mosaic does not answer. When there never
        were any, raises `MosaicUnavailable`, or `MosaicContractBroken` where there is no key set;
        for a while without another call.
        """
        slot = self._slot(url)
        keys = slot.keys
        if keys is not None and self._is_within(slot.tried_at, self._max_age):
            return keys
        if keys is not None:
            return self._renew_without_waiting(slot, deadline) or keys
        with deadline.hold(slot.lock, self._hang(slot)):
            return slot.keys or self._fetch_if_due(slot, deadline)

    def require(self, url: str, deadline: Deadline) -> None:
        """Fetch the keys at *url* if there are none, also no old ones. Raises as `current` does."""
        if self._slot(url).keys is None:
            self.current(url, deadline)

    def renewed(self, url: str, seen: KeySet, deadline: Deadline) -> KeySet | None:
        """Return a newer set than *seen*, or None if none can be had, or not yet."""
        slot = self._slot(url)
        with deadline.hold(slot.lock):
            if slot.keys is not seen:
                return slot.keys  # another thread fetched it meanwhile
            if self._is_within(slot.refetched_at, self._refetch_after):
                return None
            if self._recent_failure(slot) is not None:
                return None  # counted as a refetch, it would put off the real one
            slot.refetched_at = self._timestamp()
            return self._fetch_if_possible(slot, deadline)

    def fetch(self, url: str, deadline: Deadline) -> datetime | None:
        """Fetch the keys at *url* anew; return what time it is there, if it says so."""
        slot = self._slot(url)
        with deadline.hold(slot.lock):
            self._fetch(slot, deadline)
            return http_date(slot.date)

    def _renew_without_waiting(self, slot: _Slot, deadline: Deadline) -> KeySet | None:
        if not slot.lock.acquire(blocking=False):
            return None  # another thread is at it
        try:
            # The keys we have still work: keep half of the caller's time for the call itself.
            return self._fetch_if_possible(slot, deadline.at_most(deadline.remaining() / 2))
        finally:
            slot.lock.release()

    def _fetch_if_possible(self, slot: _Slot, deadline: Deadline) -> KeySet | None:
        try:
            return self._fetch_if_due(slot, deadline)
        except (TryLater, OperatorMustAct) as error:
            # Not with every token that comes along: again after the usual pause.
            slot.tried_at = self._timestamp() - max(0.0, self._max_age - self._refetch_after)
            log.warning("jwks_not_renewed", url=slot.url, error=type(error).__name__)
            return None

    def _fetch_if_due(self, slot: _Slot, deadline: Deadline) -> KeySet:
        """Fetch, unless that has failed a moment ago: then the same is raised again."""
        failure = self._recent_failure(slot)
        if failure is not None:
            raise failure.again(self._timestamp())
        had_seconds = deadline.remaining()
        try:
            return self._fetch(slot, deadline)
        except (TryLater, OperatorMustAct) as error:
            if counts(error, had_seconds):
                slot.failure = self._failure(error)
            raise

    def _failure(self, error: TryLater | OperatorMustAct) -> FailedFetch:
        """Return what *error* means for the next fetch; *error* tells its caller when that is."""
        seconds = min(FAILURE_SECONDS, self._refetch_after)
        if isinstance(error, TryLater):
            longest = min(MAX_FAILURE_SECONDS, self._refetch_after)
            seconds = error.retry_after = min(max(FAILURE_SECONDS, error.retry_after), longest)
        return FailedFetch(type(error), str(error), self._timestamp(), seconds)

    def _recent_failure(self, slot: _Slot) -> FailedFetch | None:
        """Return the failure of the latest fetch while there is to be no other."""
        failure = slot.failure
        return failure if failure is not None and failure.is_recent(self._timestamp()) else None

    def _hang(self, slot: _Slot) -> TryLater | OperatorMustAct | None:
        """Return what to raise instead of waiting for a fetch, where the latest has just failed.

        The next may hang as well, and one key set would hold all slots of the worker.
        """
        failure, now = slot.failure, self._timestamp()
        if failure is None or not failure.is_within(HANGS_SECONDS, now):
            return None
        return failure.again(now)

    def _fetch(self, slot: _Slot, deadline: Deadline) -> KeySet:
        with self._faults.watch(Endpoint.JWKS, slot.url):
            answer = self._http.get(Endpoint.JWKS, slot.url, deadline)
            body = reading.accept(Endpoint.JWKS, slot.url, answer)
            keys = read_key_set(body)
            if not keys.keys:
                raise MosaicContractBroken(f"{Endpoint.JWKS} at {slot.url}: no usable key there")
        slot.keys, slot.tried_at, slot.date = keys, self._timestamp(), answer.date
        slot.failure = None
        return keys

    def _is_within(self, moment: float, seconds: float) -> bool:
        # A clock that was set back makes the moment lie ahead: then it is not believed.
        return 0 <= self._timestamp() - moment < seconds

    def _timestamp(self) -> float:
        return self._now().timestamp()

    def _slot(self, url: str) -> _Slot:
        slot = self._slots.get(url)
        if slot is None:
            with self._slots_lock:
                slot = self._slots.setdefault(url, _Slot(url))
        return slot


class _Slot:
    def __init__(self, url: str) -> None:
        self.url = url
        self.lock = threading.Lock()  # held by the one thread that fetches
        self.keys: KeySet | None = None
        self.date = ""  # of the latest answer
        self.tried_at = float("-inf")
        self.refetched_at = float("-inf")
        self.failure: FailedFetch | None = None  # of the latest fetch


def read_key_set(body: Any) -> KeySet:
    """Return the keys of a JWKS that can be used; one that cannot does not spoil the others."""
    members = body.get("keys") if isinstance(body, dict) else None
    entries = members[:MAX_KEYS] if isinstance(members, list) else []
    return KeySet(tuple(key for entry in entries if (key := _read_key(entry)) is not None))


def _read_key(entry: Any) -> VerificationKey | None:
    if not isinstance(entry, dict) or entry.get("use") not in {None, "sig"}:
        return None
    kid, algorithm = entry.get("kid"), entry.get("alg")
    if not isinstance(kid, str | None):
        return None
    try:
        key = _import_key(entry)
    except (JoseError, ValueError, TypeError, KeyError):
        return None
    if key is None:
        return None
    # All of its kind, whichever it names: Mosaic signs RS256 and PS256 with one key, whose JWK may
    # name the other one.
    usable = RSA_ALGORITHMS if isinstance(key, RSAKey) else EC_ALGORITHMS
    named = None if algorithm is None else str(algorithm)
    return VerificationKey(kid, usable, named, key) if named is None or named in usable else None


def _import_key(entry: dict[str, Any]) -> RSAKey | ECKey | None:
    """Import the public numbers alone: whatever else is in the entry is not our business."""
    kind = entry.get("kty")
    if kind == "RSA":
        is_sound = SMALLEST_RSA_BITS <= _bits(entry["n"]) <= LARGEST_RSA_BITS
        if not is_sound or _bits(entry["e"]) > LARGEST_EXPONENT_BITS:
            return None
        return RSAKey.import_key({"kty": "RSA", "n": entry["n"], "e": entry["e"]})
    if kind == "EC" and entry["crv"] == "P-256":
        return ECKey.import_key({name: entry[name] for name in ("kty", "crv", "x", "y")})
    return None


def _bits(number: str) -> int:
    padded = number + "=" * (-len(number) % 4)
    return int.from_bytes(base64.urlsafe_b64decode(padded), "big").bit_length()
