"""One call to Mosaic and its answer, before any of it is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from worker.http_client import HttpAnswer


class Endpoint(StrEnum):
    """The calls that are made; of those about one session, the path under ``/cis/v1/auth``."""

    TOKEN = "client token"  # noqa: S105 - a name
    JWKS = "jwks"
    AUTHENTICATE = "session/authenticate"
    LOGOUT = "session/logout"
    LIST_SESSIONS = "users/sessions"
    DELETE_SESSIONS = "users/sessions/delete"
    DELETE_FRONTEND_SESSIONS = "frontend_sessions/delete"
    # First steps of active logins.
    OTP_SEND = "otp/send"
    LINK_SEND = "link/email/send"
    SOCIAL_START = "social/start"  # with the provider in between, in the path
    SOCIAL_VERIFY = "social/verify"
    TOTP_TRANSACTION_START = "totp/transaction/start"
    WEBAUTHN_START = "webauthn/authenticate/start"
    # What completes them.
    PASSWORD_PROOF = "password/authenticate"  # noqa: S105 - a path
    OTP_PROOF = "otp/authenticate"
    LINK_PROOF = "link/email/authenticate"
    TOTP_PROOF = "totp/authenticate"
    TOTP_TRANSACTION_PROOF = "totp/transaction/authenticate"
    SOCIAL_PROOF = "social/authenticate"
    WEBAUTHN_PROOF = "webauthn/authenticate"
    BIOMETRICS_PROOF = "mobile-biometrics/authenticate"
    REFRESH = "token/refresh"


@dataclass(frozen=True, slots=True)
class Asked:
    """One call and its answer. *options* names the app's own optional fields that were sent.

    *is_token_proven* says whether Mosaic has accepted the client token before, *sent* what a call
    that is not repeated has sent.
    """

    endpoint: Endpoint
    url: str
    answer: HttpAnswer
    options: tuple[str, ...] = ()
    is_token_proven: bool = False
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False)
