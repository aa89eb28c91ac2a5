"""The words app and worker share: task names, queues, verdicts, reasons and limits.

The worker takes every name from here, and ``docs/contract.md`` is tested against this file.
"""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import timedelta
from typing import Final

from session_client.words import Word

VERSION: Final = 1


class Task(Word):
    """What an app may ask for; the value is the Celery task name."""

    REGISTER = "sessions.register"
    SILENT_AUTH = "sessions.silent_auth"
    START = "sessions.start"
    AUTHENTICATE = "sessions.authenticate"
    REFRESH = "sessions.refresh"
    TICKET = "sessions.ticket"
    STATUS = "sessions.status"
    LOGOUT = "sessions.logout"
    REVOKE_USER = "sessions.revoke_user"
    RECEIPT = "sessions.receipt"
    CONFIRM_NOTICE = "notices.confirm"
    ABOUT = "apps.about"


class Queue(Word):
    """One queue a class of work, so that a slow class never holds up another."""

    AUTH = "auth"  # waits for Mosaic, and a user waits for it
    LOGIN = "login"  # likewise, and for the gateways that Mosaic sends codes through
    SESSIONS = "sessions"  # answered from the store
    LOGOUT = "logout"  # done in the store; Mosaic and the apps are told later
    IDP = "idp"  # the worker's own: sessions to end at Mosaic
    NOTIFY = "notify"  # the worker's own: apps to tell
    MAINTENANCE = "maintenance"  # the worker's own


# The task an app's own worker runs when a session it shares has ended: a sealed notice.
LOGOUT_NOTICE_TASK: Final = "sessions.logged_out"

# The header that says when a message was published; optional, and no more than a hint.
PUBLISHED_AT: Final = "published_at"
# The header that names another list for the answer, in the form of a request id; optional. A
# client that asks much at once waits on one list, whose answers name what they answer.
ANSWER_TO: Final = "answer_to"

QUEUE_OF: Final = {
    Task.REGISTER: Queue.SESSIONS,
    Task.SILENT_AUTH: Queue.AUTH,
    Task.START: Queue.LOGIN,
    Task.AUTHENTICATE: Queue.LOGIN,
    Task.REFRESH: Queue.AUTH,
    Task.TICKET: Queue.SESSIONS,
    Task.STATUS: Queue.SESSIONS,
    Task.LOGOUT: Queue.LOGOUT,
    Task.REVOKE_USER: Queue.LOGOUT,
    Task.RECEIPT: Queue.LOGOUT,
    Task.CONFIRM_NOTICE: Queue.LOGOUT,
    Task.ABOUT: Queue.SESSIONS,
}


class Verdict(Word):
    """The outcome of a request. Only ``OK`` and ``AUTHENTICATED`` are a yes."""

    OK = "ok"
    AUTHENTICATED = "authenticated"
    LOGIN_REQUIRED = "login_required"
    INTERACTION_REQUIRED = "interaction_required"
    ACCESS_DENIED = "access_denied"
    TEMPORARILY_UNAVAILABLE = "temporarily_unavailable"
    INVALID_REQUEST = "invalid_request"
    UNAUTHORIZED = "unauthorized"


class Reason(Word):
    """Why the verdict is not a yes. An open set: treat an unknown reason as its verdict alone."""

    # login_required: the user must sign in again
    NO_SESSION = "no_session"
    LOGGED_OUT = "logged_out"
    EXPIRED = "expired"
    GONE_AT_IDP = "gone_at_idp"
    QUARANTINED = "quarantined"
    REVOKED = "revoked"
    CAP_REACHED = "cap_reached"
    REPLACED = "replaced"
    TOKEN_REPLACED = "token_replaced"  # noqa: S105 - a reason, not a password
    TICKET_REFUSED = "ticket_refused"
    REFRESH_REFUSED = "refresh_refused"
    # login_required: Mosaic says so of the user when it is asked silently
    USER_NOT_ACTIVE = "user_not_active"
    USER_LOCKED = "user_locked"
    USER_UNKNOWN = "user_unknown"
    # interaction_required: the session lives, but is too weak for this app
    AMR_MISSING = "amr_missing"
    AMR_UNPROVEN = "amr_unproven"
    MAX_AGE_EXCEEDED = "max_age_exceeded"
    # access_denied: an active login, or a step of one, that is not accepted
    INVALID_CREDENTIALS = "invalid_credentials"
    CODE_EXPIRED = "code_expired"
    TOO_MANY_ATTEMPTS = "too_many_attempts"
    WRONG_BROWSER = "wrong_browser"
    NOT_ALLOWED = "not_allowed"
    REFUSED_BY_IDP = "refused_by_idp"
    # temporarily_unavailable: ask again after retry_after seconds
    IDP_UNAVAILABLE = "idp_unavailable"
    RATE_LIMITED = "rate_limited"
    STORE_UNAVAILABLE = "store_unavailable"
    SESSION_CHANGED = "session_changed"
    INTERNAL_ERROR = "internal_error"
    # likewise, without retry_after: the proof is used up, perhaps, and the user begins anew
    OUTCOME_UNKNOWN = "outcome_unknown"
    # invalid_request: asking again unchanged cannot help
    MALFORMED = "malformed"
    UNKNOWN_VERSION = "unknown_version"
    OUTSIDE_MISMATCH = "outside_mismatch"
    DEADLINE_PASSED = "deadline_passed"
    CLOCK_SKEW = "clock_skew"
    REQUEST_ID_REUSED = "request_id_reused"
    INVALID_PAYLOAD = "invalid_payload"
    OPTIONS_REFUSED = "options_refused"
    NO_RECEIPT = "no_receipt"
    ID_TOKEN_INVALID = "id_token_invalid"  # noqa: S105 - a reason, not a password
    SUBJECT_MISMATCH = "subject_mismatch"
    # unauthorized
    TOO_LARGE = "too_large"
    NOT_SEALED = "not_sealed"
    UNKNOWN_APP = "unknown_app"
    WRONG_QUEUE = "wrong_queue"
    APP_DISABLED = "app_disabled"
    WRONG_KEY = "wrong_key"
    NOT_PERMITTED = "not_permitted"
    # temporarily_unavailable: Mosaic refuses this app's client, and an operator must act
    CLIENT_REFUSED = "client_refused"


class Method(Word):
    """How a user signs in. The operator grants an app each method by its name."""

    PASSWORD = "password"  # noqa: S105 - a name
    OTP = "otp"  # a code by SMS or mail
    LINK = "link"  # a link by mail
    TOTP = "totp"
    TOTP_TRANSACTION = "totp_transaction"  # the authenticator app signs what the user approves
    WEBAUTHN = "webauthn"
    MOBILE_BIOMETRICS = "mobile_biometrics"
    # With these the app itself may say who signs in: it can then be any user.
    SOCIAL = "social"
    OTP_DIRECT = "otp_direct"
    LINK_DIRECT = "link_direct"


class LogoutScope(Word):
    """How much a logout ends."""

    SESSION = "session"
    DEVICE = "device"
    USER = "user"


class LogoutWait(Word):
    """What a logout waits for: the commit, Mosaic as well, or every app that shares the session."""

    LOCAL = "local"
    IDP = "idp"
    ALL = "all"


MAX_ENVELOPE_BYTES: Final = 64 * 1024
# An ID token may carry 100 KB of custom data of the user and as much of the app, in base64. An
# app that registers such a login sends it in base64 once more; no other request may be so large.
MAX_ID_TOKEN_CHARACTERS: Final = 320 * 1024
MAX_REGISTER_BYTES: Final = 448 * 1024
# A whole message as it lies on the broker, base64 and headers included: in the queue that
# registrations come by, and in all others. What is larger is dropped unread; an envelope that is a
# little too large still fits, and its app is told so.
MAX_REGISTER_MESSAGE_BYTES: Final = 672 * 1024
MAX_MESSAGE_BYTES: Final = 128 * 1024
# Answers come from the worker alone, and may hold tokens with many claims or a hundred sessions.
MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_NESTING: Final = 32
# How many sessions a receipt names; the newest come first.
MAX_SESSION_REFS: Final = 1000
# In the payload of a request, at all depths: fields of objects and items of lists. Each that the
# worker does not know costs it more than all that it knows.
MAX_FIELDS: Final = 256
MAX_CLOCK_SKEW: Final = timedelta(seconds=60)
ANSWER_LIFETIME: Final = timedelta(seconds=60)

# How far a deadline may lie after the time of issue. A captured message is worthless afterwards;
# a logout must outlive a long outage instead, and repeating it is harmless.
MAX_LIFETIME: Final = {
    Task.REGISTER: timedelta(minutes=15),
    Task.SILENT_AUTH: timedelta(minutes=5),
    Task.START: timedelta(minutes=5),
    Task.AUTHENTICATE: timedelta(minutes=5),
    Task.REFRESH: timedelta(minutes=5),
    Task.TICKET: timedelta(minutes=5),
    Task.STATUS: timedelta(minutes=5),
    Task.LOGOUT: timedelta(hours=24),
    Task.REVOKE_USER: timedelta(hours=24),
    Task.RECEIPT: timedelta(minutes=5),
    Task.CONFIRM_NOTICE: timedelta(hours=24),
    Task.ABOUT: timedelta(minutes=5),
}

# How long a ticket may be redeemed, and the handle of a first step used.
TICKET_LIFETIME: Final = timedelta(seconds=60)
LOGIN_LIFETIME: Final = timedelta(minutes=10)

APP_ID_PATTERN: Final = r"[a-z0-9](?:[a-z0-9_-]{0,62}[a-z0-9])?"
REQUEST_ID_PATTERN: Final = r"[A-Za-z0-9_-]{16,64}"
# 256 random bits behind a prefix, by which client, worker and secret scanners tell what it is.
BROWSER_TOKEN_PATTERN: Final = r"msb1_[A-Za-z0-9_-]{43}"  # noqa: S105 - a form
TICKET_PATTERN: Final = r"mst1_[A-Za-z0-9_-]{43}"
# As in PKCE (RFC 7636): the challenge is base64url of the verifier's SHA-256.
VERIFIER_PATTERN: Final = r"[A-Za-z0-9._~-]{43,128}"
CHALLENGE_PATTERN: Final = r"[A-Za-z0-9_-]{43}"


def max_envelope_bytes(task: Task) -> int:
    """Return how long the envelope of a request may be, in characters."""
    return MAX_REGISTER_BYTES if task is Task.REGISTER else MAX_ENVELOPE_BYTES


def max_message_bytes(queue: str) -> int:
    """Return how large a message in *queue* may be, as it lies there."""
    is_for_registrations = queue == QUEUE_OF[Task.REGISTER].value
    return MAX_REGISTER_MESSAGE_BYTES if is_for_registrations else MAX_MESSAGE_BYTES


def is_app_id(value: object) -> bool:
    """Whether *value* has the form of an app id. What has not never becomes part of a key."""
    return _has_form(APP_ID_PATTERN, value)


def is_request_id(value: object) -> bool:
    """Whether *value* has the form of a request id."""
    return _has_form(REQUEST_ID_PATTERN, value)


def is_browser_token(value: object) -> bool:
    """Whether *value* has the form of a browser token. What has not names no session."""
    return _has_form(BROWSER_TOKEN_PATTERN, value)


def is_ticket(value: object) -> bool:
    """Whether *value* has the form of a ticket. What has not names no session."""
    return _has_form(TICKET_PATTERN, value)


def is_verifier(value: object) -> bool:
    """Whether *value* has the form of a ticket's verifier."""
    return _has_form(VERIFIER_PATTERN, value)


def is_challenge(value: object) -> bool:
    """Whether *value* has the form of a ticket's challenge."""
    return _has_form(CHALLENGE_PATTERN, value)


def _has_form(pattern: str, value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def challenge_of(verifier: str) -> str:
    """Return the challenge to ask for a ticket with; the *verifier* redeems it."""
    digest = hashlib.sha256(verifier.encode()).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def reply_key(app_id: str, request_id: str) -> str:
    """Return the Redis list on which the answer to a request is pushed."""
    return f"reply:{app_id}:{request_id}"
