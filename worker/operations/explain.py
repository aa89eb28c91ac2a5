"""Why a session is alive or ended, who was told of it, and what comes next, in sentences.

Reads only. No session id, token or key is selected.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Row, select

from models import (
    App,
    EndCause,
    IdpSession,
    LogoutRequest,
    LogoutRequestSession,
    UserRevocation,
    UserWatermark,
)
from worker.maintenance.purge import REMEMBERED_AT_LEAST
from worker.operations import overview
from worker.operations.views import AuditEntry, SessionDetails
from worker.outbox import leases
from worker.sessions import audit
from worker.sessions.caps import effective_expiry
from worker.wiring import Services

MAX_SESSIONS: Final = 20
_MAX_USES: Final = 5
_PENDING: Final = "pending"
_CONFIRMED: Final = "confirmed"
_FAILED: Final = "failed"

_CAUSES: Final[dict[str, str]] = {
    EndCause.LOGOUT: "logged out",
    EndCause.GONE_AT_IDP: "gone at Mosaic, which did not know it any more",
    EndCause.EXPIRED: "expired: it was not used in time",
    EndCause.QUARANTINED: "ended because its tokens were about another user",
    EndCause.REVOKED: "revoked",
    EndCause.CAP_REACHED: "ended because it reached a cap of the settings",
    EndCause.REPLACED: "replaced: the same browser signed in anew",
}
_BEGINNINGS: Final = {
    audit.REGISTERED: "registered",
    audit.SIGNED_IN: "signed in",
    audit.FACTOR_ADDED: "a factor was added",
}


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


def session(services: Services, ref: UUID) -> Explanation | None:
    """Explain one session; None when there is none."""
    details = overview.session_details(services, ref)
    if details is None:
        return None
    with services.store.read() as connection:
        used = select(IdpSession.last_used_at).where(IdpSession.id == ref)
        last_used_at = connection.execute(used).scalar_one_or_none()
        silent = connection.execute(select(App.app_id).where(App.notice_method.is_(None)))
        untold = set(silent.scalars())
    if last_used_at is None:
        return None  # purged a moment ago
    story = _Story(services, details, last_used_at, untold)
    return Explanation(
        about=f"session {ref} of user {details.session.user_id}",
        state=story.state,
        why=tuple(story.why()),
        extended_by=tuple(story.extended_by()),
        shared_by=tuple(story.shared_by()),
        told=tuple(story.told()),
        next=tuple(story.next()),
    )


def user(services: Services, user_id: str) -> Explanation | None:
    """Explain a user's newest sessions and revocations; None when nothing is known of them."""
    with services.store.read() as connection:
        refs = _newest(connection, IdpSession.user_id == user_id)
        marks = connection.execute(
            select(UserWatermark.logged_out_at).where(UserWatermark.user_id == user_id)
        ).scalars()
        why = [
            Fact(at, "logged out everywhere: a login from before, registered later, is ended")
            for at in marks
        ]
        revocations = connection.execute(
            select(UserRevocation.__table__)
            .where(UserRevocation.user_id == user_id)
            .order_by(UserRevocation.created_at)
        ).all()
    sessions = _each(services, refs)
    if not (sessions or why or revocations):
        return None
    live = sum(one.state == "alive" for one in sessions)
    ended = len(sessions) - live
    return Explanation(
        about=f"user {user_id}",
        state=f"{live} alive, {ended} ended or expired",
        why=tuple(why),
        told=tuple(map(_revocation, revocations)),
        next=tuple(_next_of(revocations)),
        sessions=sessions,
    )


def receipt(services: Services, receipt_id: UUID) -> Explanation | None:
    """Explain what became of one logout request; None when there is none."""
    linked = LogoutRequestSession.logout_request_id == receipt_id
    with services.store.read() as connection:
        query = select(LogoutRequest.__table__).where(LogoutRequest.id == receipt_id)
        row = connection.execute(query).one_or_none()
        if row is None:
            return None
        in_it = select(LogoutRequestSession.idp_session_id).where(linked)
        refs = _newest(connection, IdpSession.id.in_(in_it))
        of_request = UserRevocation.logout_request_id == receipt_id
        revocations = connection.execute(select(UserRevocation.__table__).where(of_request)).all()
    sessions = _each(services, refs)
    whose = f"user {row.user_id}" if row.user_id else "a browser token that is nobody's"
    said = f"{row.app_id} asked to log out {whose} (scope {row.scope})"
    told = tuple(map(_revocation, revocations))
    what_follows = tuple(_next_of(revocations))
    return Explanation(
        about=f"receipt {receipt_id}",
        state=_state_of([*told, *(fact for one in sessions for fact in one.told)]),
        why=(Fact(row.created_at, said), Fact(None, f"{row.sessions_ended} sessions ended by it")),
        told=told,
        next=what_follows,
        sessions=sessions,
    )


def _newest(connection: Connection, which: ColumnElement[bool]) -> list[UUID]:
    query = select(IdpSession.id).where(which).order_by(IdpSession.created_at.desc())
    return list(connection.execute(query.limit(MAX_SESSIONS)).scalars())


def _each(services: Services, refs: list[UUID]) -> tuple[Explanation, ...]:
    return tuple(one for ref in refs if (one := session(services, ref)) is not None)


def _state_of(told: list[Fact]) -> str:
    states = {fact.state for fact in told}
    return next((state for state in (_FAILED, _PENDING) if state in states), "done")


@dataclass(frozen=True, slots=True)
class _Story:
    """What there is to say of one session."""

    services: Services
    details: SessionDetails
    last_used_at: datetime
    untold: set[str]  # the apps that want no notices

    @property
    def state(self) -> str:
        found = self.details.session
        if found.ended_at is not None:
            return "ended"
        return "alive" if self._ends_at() > self.services.now() else "expired"

    def _ends_at(self) -> datetime:
        found = self.details.session
        return effective_expiry(
            self.services.settings,
            expires_at=found.expires_at,
            last_used_at=self.last_used_at,
            created_at=found.created_at,
        )

    def why(self) -> Iterator[Fact]:
        found = self.details.session
        for entry in self.details.trail:
            if entry.event in _BEGINNINGS:
                by = f" by {entry.app_id}" if entry.app_id else ""
                yield Fact(entry.at, f"{_BEGINNINGS[entry.event]}{by}")
        if found.ended_at is not None:
            how = _CAUSES.get(found.end_cause or "", found.end_cause)
            yield Fact(found.ended_at, f"{how}{self._by_whom()}")
        elif self.state == "alive":
            yield Fact(None, "nothing has ended it, and its time is not over")
        else:
            yield Fact(self._ends_at(), "its time is over: it gives no tokens any more")
        if found.ended_at is None and self._ends_at() < found.expires_at:
            yield Fact(self._ends_at(), "a cap of the settings ends it before Mosaic would")

    def _by_whom(self) -> str:
        who = self._ended_by()
        return f", by {who}" if who else ""

    def _ended_by(self) -> str | None:
        ends = (one for one in self.details.trail if one.event == audit.ENDED)
        return next((one.app_id or one.correlation_id for one in ends), None)

    def extended_by(self) -> Iterator[Fact]:
        uses = [entry for entry in self.details.trail if entry.event == audit.AUTHENTICATED]
        if len(uses) > _MAX_USES:
            yield Fact(uses[0].at, f"{len(uses)} silent authentications since; the last of them:")
        for entry in uses[-_MAX_USES:]:
            yield Fact(entry.at, _use(entry))

    def shared_by(self) -> Iterator[Fact]:
        for link in self.details.shares:
            until = link.access_token_expires_at
            good = "" if until is None else f", an access token of it is good until {_time(until)}"
            last = _time(link.last_authenticated_at)
            yield Fact(link.first_authenticated_at, f"{link.app_id}, last token at {last}{good}")

    def told(self) -> Iterator[Fact]:
        logout = self.details.logout
        if logout is not None:
            yield _told("Mosaic", logout.outcome, logout)
        notices = {notice.app_id: notice for notice in self.details.notices}
        for notice in notices.values():
            outcome = None if notice.closed_at is None else notice.state
            yield _told(notice.app_id, outcome, notice)
        if self.details.session.ended_at is None:
            return
        for link in self.details.shares:
            if link.app_id not in notices:
                yield Fact(None, f"{link.app_id} is not told: {self._why_not(link.app_id)}")

    def _why_not(self, app_id: str) -> str:
        if app_id == self._ended_by():
            return "it asked for it"
        return "it has no notice address" if app_id in self.untold else "it wants no such notice"

    def next(self) -> Iterator[Fact]:
        found = self.details.session
        if found.ended_at is None:
            yield from self._next_of_the_living()
            return
        owed = list(self._owed())
        for who, row, verb in owed:
            if row.closed_at is None:
                yield Fact(row.next_attempt_at, f"{who} is told again, at the earliest")
            elif _outcome_of(row) in {leases.DEAD, leases.FAILED}:
                yield Fact(None, f"{who} is told no more, unless by mosaic-sessions {verb}")
        if all(row.closed_at is not None for _, row, _ in owed):
            keep = timedelta(days=self.services.settings.keep_ended_days)
            gone = found.ended_at + max(keep, REMEMBERED_AT_LEAST)
            yield Fact(gone, "its row is deleted, at the earliest")

    def _owed(self) -> Iterator[tuple[str, Any, str]]:
        """Return who must be told, how far that is, and the verb that begins it again."""
        if self.details.logout is not None:
            yield "Mosaic", self.details.logout, "logouts replay"
        for one in self.details.notices:
            yield one.app_id, one, f"notices replay --app {one.app_id}"

    def _next_of_the_living(self) -> Iterator[Fact]:
        grace = timedelta(seconds=self.services.settings.expire_grace_seconds)
        if self.state == "alive":
            yield Fact(self._ends_at(), "it expires, unless an app uses it before")
        yield Fact(self._ends_at() + grace, "expiry marks it as ended, if nobody has used it")


def _use(entry: AuditEntry) -> str:
    by_user = ", by naming the user" if entry.detail == audit.BY_USER else ""
    return f"{entry.app_id} got tokens{by_user}"


def _outcome_of(row: Any) -> str | None:
    outcome: str | None = row.outcome if hasattr(row, "outcome") else row.state
    return outcome


def _told(who: str, outcome: str | None, row: Any) -> Fact:
    tries = f"{row.attempts} attempts" if row.attempts != 1 else "1 attempt"
    error = f", the last error: {row.last_error}" if row.last_error else ""
    if outcome is None:
        return Fact(row.created_at, f"{who} is still to be told, after {tries}{error}", _PENDING)
    if outcome == leases.CONFIRMED:
        return Fact(row.closed_at, f"{who} confirmed it, after {tries}", _CONFIRMED)
    why = f"{who} was given up ({outcome}), after {tries}{error}"
    return Fact(row.closed_at, why, _FAILED)


def _revocation(row: Row[Any]) -> Fact:
    return _told("Mosaic, of the whole user,", row.outcome, row)


def _next_of(revocations: Any) -> Iterator[Fact]:
    for row in revocations:
        if row.closed_at is None:
            yield Fact(row.next_attempt_at, "Mosaic is told of the whole user, at the earliest")


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
