"""Delivers one notice: check the address, sign, send, understand the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode

from worker.backchannel import responses
from worker.backchannel.addresses import Target, check_resolved, read_address
from worker.backchannel.logout_tokens import LogoutTokens
from worker.errors import NoticeRefused, NoticeUndelivered, NoticeUnsigned
from worker.http_client import (
    Deadline,
    HttpAnswer,
    HttpClient,
    HttpRequest,
    Resolve,
    Resolver,
    system_addresses,
)
from worker.settings.environment import variable_name
from worker.settings.model import Settings
from worker.settings.validators import parse_signing_keys

MAX_BODY_BYTES: Final = 64 * 1024  # read so that the connection can be used again, then ignored
_FORM: Final = {"Content-Type": "application/x-www-form-urlencoded"}


class NoticeSender:
    """Every back-channel logout of this process. Make it after the fork; safe for all threads.

    Nothing is retried here and nothing is waited for but the one receiver: a slow one holds up
    its own notice only.
    """

    def __init__(
        self,
        client: HttpClient,
        resolver: Resolver,
        tokens: LogoutTokens | None,
        *,
        allow_private: bool,
        missing_settings: Sequence[str] = (),
    ) -> None:
        self._client = client
        self._resolver = resolver
        self._tokens = tokens
        self._allow_private = allow_private
        self._missing_settings = missing_settings

    def post_logout_token(  # noqa: PLR0913 - what the specification wants in a notice
        self,
        *,
        url: str,
        audience: str,
        user_id: str,
        session_ref: str | None,
        notice_id: str,
        timeout_seconds: float,
    ) -> None:
        """Return once the app at *url* has taken the notice. Safe to repeat: same *notice_id*.

        *timeout_seconds* bounds all of it, name resolution included. Raises `NoticeUndelivered`
        when a later attempt may succeed, `NoticeRefused` when none will, and `NoticeUnsigned`.
        """
        deadline = Deadline.after(timeout_seconds)
        if self._tokens is None:
            raise NoticeUnsigned(f"notice: not signed without {', '.join(self._missing_settings)}")
        target = read_address(url, allow_private=self._allow_private)
        addresses = self._checked_addresses(target, deadline)
        token = self._tokens.sign(
            audience=audience, user_id=user_id, session_ref=session_ref, notice_id=notice_id
        )
        content = urlencode({"logout_token": token}).encode()
        responses.accept(
            self._send(HttpRequest("POST", target.url, _FORM, content), deadline, addresses)
        )

    def try_address(self, url: str, *, timeout_seconds: float) -> int:
        """Ask whether a server answers at *url*, and send it no notice; return the status.

        Raises `NoticeUndelivered` and `NoticeRefused` as a notice would.
        """
        deadline = Deadline.after(timeout_seconds)
        target = read_address(url, allow_private=self._allow_private)
        addresses = self._checked_addresses(target, deadline)
        return self._send(HttpRequest("HEAD", target.url), deadline, addresses).status

    @property
    def can_sign(self) -> bool:
        """Whether there are an issuer and keys, without which nothing is sent to a URL."""
        return self._tokens is not None

    def public_keys(self) -> dict[str, Any]:
        """Return the JWKS receivers verify with; during a change of keys it holds both."""
        return {"keys": [] if self._tokens is None else self._tokens.public_keys()}

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def _checked_addresses(self, target: Target, deadline: Deadline) -> Sequence[str]:
        """Return where to connect. One bad address among several is reason enough to refuse."""
        if target.literal is not None:
            return (target.literal,)
        addresses = self._resolved(target.host, deadline)
        for address in addresses:
            check_resolved(address, allow_private=self._allow_private)
        return addresses

    def _resolved(self, host: str, deadline: Deadline) -> Sequence[str]:
        with suppress(OSError, UnicodeError):
            return self._resolver.addresses(host, deadline)
        raise NoticeUndelivered("notice: its host was not resolved in time")

    def _send(
        self, request: HttpRequest, deadline: Deadline, addresses: Sequence[str]
    ) -> HttpAnswer:
        answer = self._client.send(request, deadline, addresses)
        if isinstance(answer, HttpAnswer):
            return answer
        if answer.is_url_unusable:
            raise NoticeRefused("notice address: not a usable URL")
        raise NoticeUndelivered(f"notice: {answer.cause}")


def build_notice_sender(
    settings: Settings, now: Callable[[], datetime], resolve: Resolve = system_addresses
) -> NoticeSender:
    """Make this process's sender. Without issuer and keys it can be made, but sends nothing."""
    tokens = None
    if settings.notice_issuer is not None and settings.notice_signing_keys is not None:
        keys = parse_signing_keys(settings.notice_signing_keys.get_secret_value())
        tokens = LogoutTokens(settings.notice_issuer, keys, now)
    return NoticeSender(
        HttpClient(
            max_body_bytes=MAX_BODY_BYTES,
            needs_body=False,
            ca_certificates=settings.ca_certificates,
        ),
        Resolver(resolve),
        tokens,
        allow_private=settings.notice_private_addresses,
        missing_settings=_missing_settings(settings),
    )


def _missing_settings(settings: Settings) -> Sequence[str]:
    needed = ("notice_issuer", "notice_signing_keys")
    return [variable_name(name) for name in needed if getattr(settings, name) is None]
