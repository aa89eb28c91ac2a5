"""What is counted against a user or an address that signs in: shown, and lifted by an operator.

The keys of Redis hold keyed hashes in place of names: only who has the worker's keys finds them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from worker.logins import limits
from worker.logins.limits import Bucket
from worker.operations import overview
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.wiring import Services

# What Mosaic knows by itself. An operator there may have added others.
_USER_ID: Final = "user_id"
_KNOWN_TYPES: Final = ("email", "phone_number", _USER_ID, "username")


@dataclass(frozen=True, slots=True, kw_only=True)
class Whom:
    """Whose counts: of a user of Mosaic, of what is typed to sign in, or of an IP address."""

    user_id: str | None = None
    login: str | None = None
    login_type: str | None = None  # of a login; None for all that Mosaic knows by itself
    address: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo:
    """One count as `login-limits show` tells it."""

    limit: str
    app_id: str | None  # None where all apps count together
    browser: str | None  # the id of its mark, "unknown" for all without one; None of an address
    counted: int
    most: int
    is_full: bool
    empty_at: datetime


def show(services: Services, whom: Whom) -> tuple[LimitInfo, ...]:
    """Return what is counted now, what is full first.

    Raises `StoreUnavailable` and `redis.RedisError`.
    """
    return tuple(info for _, info in _found(services, whom))


def lift(services: Services, whom: Whom, *, reason: str) -> tuple[LimitInfo, ...]:
    """Have all of it begin anew; returns what was counted.

    Written in the operators' trail first, as far as there was any. Raises as `show` does.
    """
    found = _found(services, whom)
    if found:
        with services.store.write() as connection:
            operator_trail.record(
                connection,
                Action.LOGIN_LIMITS_LIFTED,
                at=services.now(),
                user_id=whom.user_id,
                reason=reason,
                after={
                    name: value
                    for name, value in (("login", whom.login), ("address", whom.address))
                    if value is not None
                }
                | {"lifted": sorted({info.limit for _, info in found})},
            )
        # After the commit: lifted before, they could stay so without a row that says by whom. Where
        # Redis does not answer, the operator hears so and does it again.
        limits.lift(services, [bucket for bucket, _ in found])
    return tuple(info for _, info in found)


def _found(services: Services, whom: Whom) -> list[tuple[Bucket, LimitInfo]]:
    now = services.now()
    found = []
    for bucket, app_id, browser in _buckets(services, whom):
        count, seconds = limits.counted(services, bucket)
        if count:
            info = LimitInfo(
                limit=bucket.limit.value,
                app_id=app_id,
                browser=browser,
                counted=count,
                most=bucket.size,
                is_full=count >= bucket.size,
                empty_at=now + timedelta(seconds=seconds),
            )
            found.append((bucket, info))
    return sorted(found, key=lambda one: (not one[1].is_full, one[0].key))


def _buckets(services: Services, whom: Whom) -> Iterable[tuple[Bucket, str | None, str | None]]:
    """Yield each bucket with its app and its browser, where it has one."""
    if whom.address is not None:
        origin = limits.origin_of(services, whom.address)
        with services.store.read() as connection:
            app_ids = overview.all_apps(connection)
        for app_id in app_ids:
            yield limits.failures_of_address(app_id, origin), app_id, None
        yield limits.sends_of_address(origin), None, None
        return
    for subject in _subjects(services, whom):
        for bucket, browser in limits.of_subject(services, subject):
            yield bucket, None, browser


def _subjects(services: Services, whom: Whom) -> list[bytes]:
    if whom.user_id is not None:
        return [limits.subject_of(services, _USER_ID, whom.user_id)]
    types = _KNOWN_TYPES if whom.login_type is None else (whom.login_type,)
    return [limits.subject_of(services, each, whom.login or "") for each in types]
