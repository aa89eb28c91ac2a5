"""How long each table keeps its rows. A table without a rule here fails a test."""

from __future__ import annotations

from enum import Enum


class Retention(Enum):
    """When a row may be deleted."""

    KEPT = "until an operator removes it"
    # By a foreign key, which also refuses one whose session is gone: something is owed by it.
    WITH_SESSION = "with the session it belongs to"
    # By the purge itself. The database would look for the rows of each session apart, table by
    # table, and that cost four times what deleting the session did. So a writer of such a row
    # holds a lock on its session, or has made it: no purge would ever delete a row that came later.
    PURGED_ALONG = "with the session it belongs to, by the same purge"
    WITH_REQUEST = "with the logout request it belongs to"
    EXPIRED_TICKETS = "an hour after its time is over"
    # These are kept for two days at least: a message may come again.
    ENDED_SESSIONS = "keep_ended_days after the session ended, once Mosaic need not be told"
    OLD_REQUESTS = "keep_ended_days after it was made, once neither Mosaic nor an app need be told"
    OLD_WATERMARKS = "keep_ended_days after the logout it stands for"
    OLD_EVENTS = "keep_events_days after it happened"


RETENTION = {
    "apps": Retention.KEPT,
    "app_keys": Retention.KEPT,
    "idp_sessions": Retention.ENDED_SESSIONS,
    "session_aliases": Retention.PURGED_ALONG,
    "app_sessions": Retention.PURGED_ALONG,
    "browser_tokens": Retention.PURGED_ALONG,
    "tickets": Retention.EXPIRED_TICKETS,
    "login_calls": Retention.OLD_REQUESTS,
    "logouts": Retention.WITH_SESSION,
    "notices": Retention.WITH_SESSION,
    "user_watermarks": Retention.OLD_WATERMARKS,
    "device_watermarks": Retention.OLD_WATERMARKS,
    "logout_request_sessions": Retention.WITH_REQUEST,
    "logout_requests": Retention.OLD_REQUESTS,
    "user_revocations": Retention.OLD_REQUESTS,
    "session_events": Retention.OLD_EVENTS,
    "operator_actions": Retention.OLD_EVENTS,
}
