"""Tries what one app needs: key set, client, base URL, notice address. Each says what it found.

What is wrong is raised, with what to do. *app* is its row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import Row

from models import NoticeMethod
from worker.errors import (
    ClientRefused,
    ConfigurationError,
    HeldBack,
    LogoutRefused,
    MosaicContractBroken,
    MosaicRateLimited,
    MosaicUnavailable,
    NoticeRefused,
    NoticeUndelivered,
    UserRefused,
)
from worker.mosaic import MosaicApp
from worker.mosaic.asked import Endpoint
from worker.operations import queue_depth, troubles
from worker.operations.checks import Hint
from worker.wiring import Services, utc_now

_SERVER_ERRORS: Final = 500
_DOCTOR: Final = "mosaic-sessions-doctor"


def mosaic_app(services: Services, app: Row[Any]) -> MosaicApp:
    """Return what a worker would call Mosaic with."""
    known = services.apps.find(app.app_id)
    if known is None:
        raise ConfigurationError(f"{app.app_id} was removed a moment ago")
    return known.mosaic


def key_set(services: Services, app: Row[Any]) -> str:
    """Fetch the app's key set, and compare Mosaic's clock with ours."""
    mosaic = mosaic_app(services, app)
    with advised(services, Endpoint.JWKS, mosaic.jwks_url):
        there = services.mosaic.try_key_set(mosaic)
    _compare_clocks(services, there)
    return mosaic.jwks_url


def _compare_clocks(services: Services, there: datetime | None) -> None:
    apart = 0.0 if there is None else abs((utc_now() - there).total_seconds())
    if apart > services.settings.clock_skew_seconds:
        raise ConfigurationError(
            f"this machine's clock and Mosaic's are {apart:.0f} s apart: honest tokens are "
            "rejected as expired, or as not valid yet. Synchronise it (NTP)"
        )


def client(services: Services, app: Row[Any]) -> str:
    """Fetch a client token for the app."""
    with advised(services, Endpoint.TOKEN, app.app_id):
        services.mosaic.try_client(mosaic_app(services, app))
    return f"{app.client_id} gets a client token"


def base_url(services: Services, app: Row[Any]) -> str:
    """Ask Mosaic at the app's base URL, by logging out a session that there has never been.

    Of all calls that are made there this one changes nothing, and every client may make it. It is
    held to the budgets and breakers of logouts, as one and the same logout each time: to look again
    opens no breaker.
    """
    mosaic, nobodys = mosaic_app(services, app), f"{_DOCTOR}-{uuid4()}"
    seconds = services.settings.mosaic_timeout_seconds
    try:
        permit = services.traffic.admit_logout(mosaic, _DOCTOR, is_untried=False)
        with (
            advised(services, Endpoint.LOGOUT, app.app_id),
            suppress(LogoutRefused, UserRefused),
        ):
            services.mosaic.logout_session(permit, mosaic, nobodys, timeout_seconds=seconds)
    except (HeldBack, MosaicRateLimited) as error:
        raise Hint(f"not known: {error}. Look again in {math.ceil(error.retry_after)} s") from None
    return mosaic.base_url


@contextmanager
def advised(services: Services, endpoint: Endpoint, owner: str) -> Iterator[None]:
    """Raise what fails within at Mosaic, for *owner* (see `troubles.advice`), with what to do.

    What works is no fault any more, whoever noted it: `status` would tell of it for ten minutes.
    """
    try:
        yield
    except (MosaicUnavailable, ClientRefused, MosaicContractBroken) as error:
        raise ConfigurationError(
            troubles.advice(endpoint, owner, type(error).__name__, str(error))
        ) from None
    services.mosaic.faults.take_back(endpoint, owner)


def notices(services: Services, app: Row[Any]) -> str:
    """See whether the app can be told that a session has ended."""
    if app.notice_method is None:
        return "wants none"
    if app.notice_method == NoticeMethod.QUEUE:
        is_bounded = queue_depth.is_told_by(services.settings.broker_url.get_secret_value())
        bound = "" if is_bounded else "; this broker tells no depth: limit its length there"
        return f"by queue {app.notice_address}{bound}"
    if not services.notices.can_sign:
        raise ConfigurationError(
            "none can be signed: set MOSAIC_SESSIONS_NOTICE_ISSUER and "
            "MOSAIC_SESSIONS_NOTICE_SIGNING_KEYS"
        )
    timeout = services.settings.notice_timeout_seconds
    try:
        status = services.notices.try_address(app.notice_address, timeout_seconds=timeout)
    except (NoticeUndelivered, NoticeRefused) as error:
        raise ConfigurationError(
            f"{error}. Is the app up, may this machine get there, and is the address right "
            f"(mosaic-sessions apps show {app.app_id})?"
        ) from None
    if status >= _SERVER_ERRORS:
        raise ConfigurationError(f"its address answers {status}: look at the app's log")
    return f"its address answers ({status})"


def test_notice(services: Services, app: Row[Any]) -> str:
    """Send the app a signed notice about a user that does not exist."""
    if app.notice_method != NoticeMethod.BACKCHANNEL:
        raise ConfigurationError(
            f"it has no address to send one to (mosaic-sessions apps set-notice {app.app_id} "
            "--notice-url https://…)"
        )
    services.notices.post_logout_token(
        url=app.notice_address,
        audience=app.client_id,
        user_id=f"{_DOCTOR}-{uuid4()}",
        session_ref=None,
        notice_id=str(uuid4()),
        timeout_seconds=services.settings.notice_timeout_seconds,
    )
    return "it took a signed notice about a user that does not exist"
