"""How long each table keeps its rows. A table without a rule here fails a test."""

from __future__ import annotations

from enum import Enum


class Retention(Enum):
    """When a row may be deleted."""

    KEPT = "until an operator removes it"
    WITH_SESSION = "with the session it belongs to"
    EXPIRED_TICKETS = "an hour after its time is over, or with its session"
    # These are kept for two days at least: a message may come again.
    ENDED_SESSIONS = "keep_ended_days after the session ended, once Mosaic need not be told"
    OLD_REQUESTS = "keep_ended_days after it was made, once Mosaic need not be told"
    OLD_WATERMARKS = "keep_ended_days after the logout it stands for"
    OLD_EVENTS = "keep_events_days after it happened"


RETENTION = {
    "apps": Retention.KEPT,
    "app_keys": Retention.KEPT,
    "idp_sessions": Retention.ENDED_SESSIONS,
    "session_aliases": Retention.WITH_SESSION,
    "app_sessions": Retention.WITH_SESSION,
    "browser_tokens": Retention.WITH_SESSION,
    "tickets": Retention.EXPIRED_TICKETS,
    "login_calls": Retention.OLD_REQUESTS,
    "logouts": Retention.WITH_SESSION,
    "notices": Retention.WITH_SESSION,
    "user_watermarks": Retention.OLD_WATERMARKS,
    "device_watermarks": Retention.OLD_WATERMARKS,
    "logout_request_sessions": Retention.WITH_SESSION,
    "logout_requests": Retention.OLD_REQUESTS,
    "user_revocations": Retention.OLD_REQUESTS,
    "session_events": Retention.OLD_EVENTS,
    "operator_actions": Retention.OLD_EVENTS,
}
