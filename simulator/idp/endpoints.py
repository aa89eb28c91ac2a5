"""The names of Mosaic's endpoints, as faults, gates and the call log spell them."""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """One endpoint of Mosaic."""

    TOKEN = "token"
    JWKS = "jwks"
    SESSION_AUTHENTICATE = "session/authenticate"
    SESSION_LOGOUT = "session/logout"
    TOKEN_REFRESH = "token/refresh"
    SESSIONS_LIST = "sessions/list"
    SESSIONS_DELETE = "sessions/delete"
    FRONTEND_SESSIONS_DELETE = "frontend_sessions/delete"
    PASSWORD_AUTHENTICATE = "password/authenticate"
    OTP_SEND = "otp/send"
    OTP_AUTHENTICATE = "otp/authenticate"
    LINK_SEND = "link/email/send"
    LINK_AUTHENTICATE = "link/email/authenticate"
