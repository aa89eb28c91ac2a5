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
    TOTP_AUTHENTICATE = "totp/authenticate"
    TOTP_TRANSACTION_START = "totp/transaction/start"
    TOTP_TRANSACTION_AUTHENTICATE = "totp/transaction/authenticate"
    SOCIAL_START = "social/start"
    SOCIAL_VERIFY = "social/verify"
    SOCIAL_AUTHENTICATE = "social/authenticate"
    WEBAUTHN_START = "webauthn/authenticate/start"
    WEBAUTHN_AUTHENTICATE = "webauthn/authenticate"
    CROSS_DEVICE_INIT = "webauthn/cross-device/init"
    CROSS_DEVICE_ATTACH = "webauthn/cross-device/attach-device"
    CROSS_DEVICE_START = "webauthn/cross-device/start"
    CROSS_DEVICE_STATUS = "webauthn/cross-device/status"
    CROSS_DEVICE_ABORT = "webauthn/cross-device/abort"
    BIOMETRICS_START = "mobile-biometrics/start"
    BIOMETRICS_AUTHENTICATE = "mobile-biometrics/authenticate"

    TOTP_REGISTER = "totp/register"
    TOTP_REVOKE_MINE = "totp/revoke_mine"
    TOTP_REVOKE = "totp/revoke"
    TOTP_UNLOCK = "totp/unlock"
    BIOMETRICS_REGISTER = "mobile-biometrics/register"
    BIOMETRICS_DELETE = "mobile-biometrics/delete"
    USER_CREATE = "users/create"
    USER_BY_USERNAME = "users/by_username"
