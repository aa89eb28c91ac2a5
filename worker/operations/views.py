"""What operators see, as typed rows. No session id, hash or sealed value is in any of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from worker.operations.live_count import LiveSessions


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionInfo:
    """A session as `sessions list` shows it."""

    session_ref: UUID
    user_id: str
    device_id: str | None
    registered_by: str
    apps: tuple[str, ...]
    amr: tuple[str, ...]
    authenticated_at: datetime
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    end_cause: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppLink:
    """One app's share in a session."""

    app_id: str
    first_authenticated_at: datetime
    last_authenticated_at: datetime
    access_token_expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """What Mosaic must be told, or has been."""

    requested_by: str
    created_at: datetime
    give_up_at: datetime
    attempts: int
    next_attempt_at: datetime
    leased_until: datetime | None
    last_error: str | None
    closed_at: datetime | None
    outcome: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogoutInfo:
    """A session whose end Mosaic must be told. Its state is ``pending`` or its outcome.

    Without a session it is about all that Mosaic knows of a user who was revoked.
    """

    session_ref: UUID | None
    user_id: str
    app_id: str  # whose client tells it first
    state: str
    attempts: int
    next_attempt_at: datetime | None
    give_up_at: datetime
    last_error: str | None
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeInfo:
    """What an app must be told, or has been. Its state is ``pending`` or its outcome."""

    notice_id: UUID
    session_ref: UUID
    app_id: str
    cause: str
    state: str
    attempts: int
    next_attempt_at: datetime | None
    last_error: str | None
    created_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One line of the audit trail."""

    at: datetime
    event: str
    app_id: str | None
    detail: str | None
    correlation_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDetails:
    """A session as `sessions show` shows it."""

    session: SessionInfo
    shares: tuple[AppLink, ...]
    logout: Delivery | None
    notices: tuple[NoticeInfo, ...]
    trail: tuple[AuditEntry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCounts:
    """How many deliveries are open. A delivery is failing when its latest attempt failed.

    No logout is where no token has proved any of those that failed: an app may have made their ids
    up.
    """

    pending: int
    failing: int
    oldest_pending_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreCounts:
    """What `status` shows of the store."""

    live_sessions: LiveSessions
    logouts: DeliveryCounts
    failed_logouts: int
    notices: DeliveryCounts
    failed_notices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AppBehind:
    """An app that takes no notices, although they were sent to it."""

    app_id: str
    pending: int
    oldest_seconds: float
    last_error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LateLogouts:
    """Logouts that Mosaic could not be told for a quarter of an hour."""

    pending: int
    oldest_seconds: float
    of_one_app: str | None  # that alone asked for all of them, where others are served


@dataclass(frozen=True, slots=True)
class Listing:
    """Some sessions, newest first, and whether there are more."""

    sessions: tuple[SessionInfo, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class LogoutListing:
    """Some logouts, oldest first, and whether there are more."""

    logouts: tuple[LogoutInfo, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class NoticeListing:
    """Some notices, oldest first, and whether there are more."""

    notices: tuple[NoticeInfo, ...]
    has_more: bool


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is so, and since when, if it has a time."""

    at: datetime | None
    says: str
    state: str | None = None  # of what must be told: pending, confirmed, failed


Facts = tuple[Fact, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of one session, user or receipt."""

    about: str
    state: str  # alive, expired, ended; of a receipt or a user: pending, failed, done
    why: Facts
    extended_by: Facts = ()
    shared_by: Facts = ()
    told: Facts = ()
    next: Facts = ()
    sessions: tuple[Explanation, ...] = ()
