"""An app as an operator describes it, and what must be true of such a description."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from models import NoticeMethod
from session_client import contract
from worker.app_registry import CAPABILITIES
from worker.backchannel import check_address
from worker.errors import ConfigurationError, NoticeRefused
from worker.mosaic import ClientCredential, endpoints_for
from worker.settings.environment import variable_name
from worker.settings.validators import check_http_url
from worker.wiring import Services

_THIS_MACHINE: Final = frozenset({"localhost", "127.0.0.1", "::1"})
_QUEUE_NAME: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class AppError(ConfigurationError):
    """What the operator asked for cannot be done. The message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AppChoices:
    """What an operator may change of an app at any time. Named as its columns are.

    Times are in seconds; None means: as the settings say.
    """

    amr_all_of: tuple[str, ...] = ()
    amr_any_of: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    capabilities: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    transfer_url: str | None = None
    tickets_from: tuple[str, ...] = ()
    base_url: str | None = None
    token_url: str | None = None
    jwks_url: str | None = None
    issuer: str | None = None
    session_lifetime_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApp(AppChoices):
    """An app as an operator describes it."""

    app_id: str
    client_id: str
    credential: ClientCredential
    notice_method: NoticeMethod | None = None
    notice_address: str | None = None
    notify_on_expiry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AppInfo(AppChoices):
    """An app as `apps list` and `apps show` show it."""

    app_id: str
    client_id: str
    token_endpoint_auth_method: str
    notice_method: str | None
    notice_address: str | None
    notify_on_expiry: bool
    kids: tuple[str, ...]
    created_at: datetime
    disabled_at: datetime | None


def check_new(services: Services, new: NewApp) -> None:
    """Raise `AppError` unless an app can be registered like this."""
    if not contract.is_app_id(new.app_id):
        raise AppError("an app id has lower-case letters, digits, - and _, 64 at most")
    if not new.client_id:
        raise AppError("the client id must not be empty")
    check_choices(services, new)
    check_notice(services, new.notice_method, new.notice_address, new.notify_on_expiry)


def check_choices(services: Services, choices: AppChoices) -> None:
    """Raise `AppError`, or `ConfigurationError` by `endpoints_for`, unless all can be meant."""
    _check_known("capability", choices.capabilities, CAPABILITIES)
    _check_known("method", choices.methods, set(contract.Method))
    _check_tickets(choices)
    for seconds in (choices.max_age_seconds, choices.session_lifetime_seconds):
        if seconds is not None and seconds <= 0:
            raise AppError("ages and lifetimes are positive numbers of seconds")
    for name in ("base_url", "token_url", "jwks_url"):
        _check_url(name, getattr(choices, name))
    endpoints_for(
        services.settings,
        base_url=choices.base_url,
        token_url=choices.token_url,
        jwks_url=choices.jwks_url,
        issuer=choices.issuer,
    )


def _check_known(what: str, names: tuple[str, ...], known: Collection[str]) -> None:
    unknown = sorted(set(names).difference(known))
    if unknown:
        raise AppError(f"unknown {what} {', '.join(unknown)}; known: {', '.join(sorted(known))}")


def _check_tickets(choices: AppChoices) -> None:
    if (choices.transfer_url is None) != (not choices.tickets_from):
        raise AppError(
            "an app takes tickets from apps (--tickets-from) at an address (--transfer-url): "
            "give both, or neither"
        )
    if not all(contract.is_app_id(app_id) for app_id in choices.tickets_from):
        raise AppError("tickets-from names apps, by their app ids")
    if choices.transfer_url is not None:
        _check_transfer_url(choices.transfer_url)


def _check_transfer_url(url: str) -> None:
    _check_url("transfer_url", url)
    parts = urlsplit(url)
    # A browser carries the ticket there: in clear it could be read on its way.
    if parts.scheme != "https" and parts.hostname not in _THIS_MACHINE:
        raise AppError("transfer-url needs https; http is for localhost alone")


def check_notice(
    services: Services,
    method: NoticeMethod | None,
    address: str | None,
    notify_on_expiry: bool,  # noqa: FBT001 - read with its name
) -> None:
    """Raise `AppError` unless an app can be told like this."""
    if (method is None) != (address is None):
        raise AppError("a notice method needs an address, and an address a method")
    if method is None and notify_on_expiry:
        raise AppError("an app that is to be told of expiry needs a notice address")
    if method is NoticeMethod.BACKCHANNEL:
        _check_notice_url(services, str(address))
    if method is NoticeMethod.QUEUE and address in set(contract.Queue):
        raise AppError("the notice queue must be the app's own, not one of the worker's")
    if method is NoticeMethod.QUEUE and not _QUEUE_NAME.fullmatch(str(address)):
        raise AppError("a notice queue's name has letters, digits, ., -, _ and :, 128 at most")


def _check_notice_url(services: Services, url: str) -> None:
    try:
        check_address(url, allow_private=services.settings.notice_private_addresses)
    except NoticeRefused as refusal:
        raise AppError(str(refusal)) from None
    if not services.notices.can_sign:
        # Noticed at the first logout otherwise, which the app would then not be told of.
        raise AppError(
            f"a notice to a URL is signed: set {variable_name('notice_issuer')} and "
            f"{variable_name('notice_signing_keys')} first, for the workers too"
        )


def _check_url(name: str, url: str | None) -> None:
    if url is None:
        return
    try:
        check_http_url(url)
    except ValueError as error:
        raise AppError(f"{name.replace('_', '-')} {error}") from None
