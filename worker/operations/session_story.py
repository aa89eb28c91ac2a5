"""What there is to say of one session, in sentences: why it is as it is, and what comes next."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from models import EndCause
from worker.maintenance.purge import REMEMBERED_AT_LEAST
from worker.operations.overview import who_ended
from worker.operations.views import AuditEntry, Fact, SessionDetails
from worker.outbox import leases
from worker.sessions import audit
from worker.sessions.caps import effective_expiry
from worker.wiring import Services

PENDING: Final = "pending"
CONFIRMED: Final = "confirmed"
FAILED: Final = "failed"
_MAX_USES: Final = 5

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
class Story:
    """What there is to say of one session."""

    services: Services
    details: SessionDetails
    last_used_at: datetime
    untold: set[str]  # the apps that want no notices

    @property
    def state(self) -> str:
        """Whether it is alive, expired or ended."""
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
        """Say how it began, and why it is alive or ended."""
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
        who = who_ended(self.details.trail)
        return f", by {who}" if who else ""

    def extended_by(self) -> Iterator[Fact]:
        """Say which uses have put its end off, the last of them."""
        uses = [entry for entry in self.details.trail if entry.event == audit.AUTHENTICATED]
        if len(uses) > _MAX_USES:
            yield Fact(uses[0].at, f"{len(uses)} silent authentications since; the last of them:")
        for entry in uses[-_MAX_USES:]:
            yield Fact(entry.at, _use(entry))

    def shared_by(self) -> Iterator[Fact]:
        """Say which apps share it."""
        for link in self.details.shares:
            until = link.access_token_expires_at
            good = "" if until is None else f", an access token of it is good until {_time(until)}"
            last = _time(link.last_authenticated_at)
            yield Fact(link.first_authenticated_at, f"{link.app_id}, last token at {last}{good}")

    def told(self) -> Iterator[Fact]:
        """Say whether Mosaic and each app was told of its end."""
        logout = self.details.logout
        if logout is not None:
            yield told_of("Mosaic", logout.outcome, logout)
        notices = {notice.app_id: notice for notice in self.details.notices}
        for notice in notices.values():
            outcome = None if notice.closed_at is None else notice.state
            yield told_of(notice.app_id, outcome, notice)
        if self.details.session.ended_at is None:
            return
        for link in self.details.shares:
            if link.app_id not in notices:
                yield Fact(None, f"{link.app_id} is not told: {self._why_not(link.app_id)}")

    def _why_not(self, app_id: str) -> str:
        if app_id == who_ended(self.details.trail):
            return "it asked for it"
        return "it has no notice address" if app_id in self.untold else "it wants no such notice"

    def next(self) -> Iterator[Fact]:
        """Say what comes next, and when."""
        found = self.details.session
        if found.ended_at is None:
            yield from self._next_of_the_living()
            return
        owed = list(self._owed())
        for receiver, row, verb in owed:
            if row.closed_at is None:
                yield Fact(row.next_attempt_at, f"{receiver} is told again, at the earliest")
            elif _outcome_of(row) in {leases.DEAD, leases.FAILED}:
                yield Fact(None, f"{receiver} is told no more, unless by mosaic-sessions {verb}")
        if all(row.closed_at is not None for _, row, _ in owed):
            keep = timedelta(days=self.services.settings.keep_ended_days)
            gone = found.ended_at + max(keep, REMEMBERED_AT_LEAST)
            yield Fact(gone, "its row is deleted, at the earliest")

    def _owed(self) -> Iterator[tuple[str, Any, str]]:
        """Return each receiver to be told, how far that is, and the verb that begins it again."""
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


def told_of(receiver: str, outcome: str | None, row: Any) -> Fact:
    """Say whether *receiver* was told by the delivery *row*, which ended with *outcome*."""
    tries = f"{row.attempts} attempts" if row.attempts != 1 else "1 attempt"
    error = f", the last error: {row.last_error}" if row.last_error else ""
    if outcome is None:
        return Fact(
            row.created_at, f"{receiver} is still to be told, after {tries}{error}", PENDING
        )
    if outcome == leases.CONFIRMED:
        return Fact(row.closed_at, f"{receiver} confirmed it, after {tries}", CONFIRMED)
    if outcome == leases.NO_ADDRESS:
        return Fact(row.closed_at, f"{receiver} is not told: it has no notice address any more")
    why = f"{receiver} was given up ({outcome}), after {tries}{error}"
    return Fact(row.closed_at, why, FAILED)


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"
