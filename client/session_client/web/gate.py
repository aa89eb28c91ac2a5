"""Who may pass: decides about one request of a guarded view, and yields what needs I/O.

Three things tell that a session has ended elsewhere: the browser's cookie, a mark, and the worker,
who is asked every few minutes. The first two come at once, the third always.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final
from urllib.parse import urlsplit

from session_client import browser_cookie
from session_client.contract import Reason
from session_client.errors import ConfigurationError, NotAnswered, Unavailable
from session_client.values import Authenticated, LoginRequired, SilentAnswer, StepUpRequired
from session_client.web import marks, outcome
from session_client.web.incoming import Incoming
from session_client.web.local import Local, Wants, digest_of
from session_client.web.options import Options
from session_client.web.outcome import UNCACHED, Ask, Changes, Look, Passed, Steps, Turned

# A local session that was checked further ahead of now than this was checked by no clock of ours.
_SKEW_SECONDS: Final = 60.0
# A recheck may fail, for a user who is in: no page shall wait for it for long.
_RECHECK_TIMEOUT_SECONDS: Final = 2.0
_AWAY_SECONDS: Final = 5.0
_NO_SESSION: Final = Reason.NO_SESSION.value
_LOGGED_OUT: Final = Reason.LOGGED_OUT.value
_AGAIN: Final = "mosaic-again"
# A browser that has just got a newer token sends it when the page is loaded again. Once.
_MARKER: Final = outcome.host_cookie(_AGAIN, "1", 5, is_secure=False)


def guard(
    request: Incoming, options: Options, local: Local | None, wants: Wants, *, now: float
) -> Steps[Passed | Turned]:
    """Decide about *request*, whose framework's session holds *local*, at the time *now*.

    Raises what is wrong with settings or machines and is no outage (`Unauthorized` and so on): it
    is an error of the app, and never "sign in again".
    """
    if request.has_effects and not request.is_from_here(options.trusted_origins):
        return outcome.foreign(request)
    token = options.cookie.read(request.cookies)
    try:
        decided = yield from _Gate(request, options, wants, token, now).decide(local)
    except Unavailable as error:
        return outcome.unavailable(request, error)
    if isinstance(decided, Turned):
        _check_that_it_leads_on(request, options, decided)
    return replace(decided, changes=decided.changes.and_headers(*UNCACHED))


def glance(
    request: Incoming, options: Options, local: Local | None, *, silently: bool, now: float
) -> Steps[Passed | Changes]:
    """Say who is in, for a view that is not guarded; else what to keep when no user is.

    With *silently* a user may be signed in who was not.
    """
    token = options.cookie.read(request.cookies)
    is_in = local is not None and not local.is_over
    if not is_in and not (silently and token is not None and request.may_sign_in_silently):
        return Changes()
    try:
        decided = yield from _Gate(request, options, Wants(), token, now).decide(local)
    except Unavailable:
        return Changes()
    if isinstance(decided, Passed):
        return replace(decided, changes=decided.changes.and_headers(*UNCACHED))
    if local is None or decided.changes.local is None:
        return Changes()
    return Changes(local=local.over())


def admit(
    answer: Authenticated, options: Options, *, token: str | None, asked_at: float
) -> Steps[Local | None]:
    """Return the local session that *answer* begins; None if a notice of its end came meanwhile.

    *token* is what the browser holds from now on.
    """
    names = (marks.of_session(answer.session_ref), marks.of_user(answer.user_id))
    found: dict[str, float] | None = yield Look(names)
    known = found or {}
    if names[0] in known or known.get(names[1], -1.0) >= asked_at:
        return None
    return local_of(answer, token=token, asked_at=asked_at, options=options)


def local_of(
    answer: Authenticated, *, token: str | None, asked_at: float, options: Options
) -> Local:
    """Return what is kept of *answer*, as of when it was asked for."""
    # Where the worker does not say how old the login is, no page takes it to be new.
    age = answer.auth_age if answer.auth_age is not None else asked_at
    lasts = answer.expires_in if answer.expires_in is not None else 2 * options.recheck
    return Local(
        user_id=answer.user_id,
        session_ref=answer.session_ref,
        amr=answer.amr,
        authenticated_at=asked_at - age,
        checked_at=asked_at,
        renew_at=asked_at + lasts / 2,
        browser=digest_of(answer.browser_token or token),
    )


def _check_that_it_leads_on(request: Incoming, options: Options, turned: Turned) -> None:
    """Raise where a page leads to itself: a browser says no more than "too many redirects".

    A form leads to the view for GET, which may be open. A page that is loaded again, to bring the
    newest token, is so once.
    """
    if request.has_effects or turned.location == outcome.redirect(request.way_back).location:
        return
    here = request.path.partition("?")[0]  # anybody's text: urlsplit raises for some
    for name in ("login", "step_up"):
        page = getattr(options, name)
        if urlsplit(turned.location or "").path == urlsplit(page).path == here:
            raise ConfigurationError(
                f"{name}: the view at {page} is for users who are not in: take signed_in off it"
            )


@dataclass(frozen=True, slots=True)
class _Gate:
    request: Incoming
    options: Options
    wants: Wants
    token: str | None
    now: float

    def decide(self, local: Local | None) -> Steps[Passed | Turned]:
        if self.token is None:
            # Signed out at another app, never signed in, or a sibling host has planted a second
            # cookie: no user is in, whatever our own session says.
            return self._login(_NO_SESSION, local)
        if local is None or local.is_over:
            if not self.request.may_sign_in_silently:
                return self._login(_NO_SESSION, local)
            return (yield from self._ask_silently(local))
        if local.browser != digest_of(self.token):
            return (yield from self._ask_silently(local))  # there was a login at another app
        return (yield from self._stay(local))

    def _stay(self, local: Local) -> Steps[Passed | Turned]:
        """Decide about a user who is in already."""
        names = (marks.of_session(local.session_ref), marks.of_user(local.user_id))
        found: dict[str, float] | None = yield Look(names)
        known = found or {}
        if names[0] in known:
            return self._login(_LOGGED_OUT, local)
        # All of the user's sessions, or the marks cannot be read: the worker knows.
        is_doubtful = known.get(names[1], -1.0) >= local.checked_at
        if not self.wants.are_met_by(local, self.now):
            return (yield from self._ask_silently(local))
        age = self.now - local.checked_at
        if is_doubtful or found is None or not -_SKEW_SECONDS < age < self.options.recheck:
            return (yield from self._recheck(local, is_doubtful=is_doubtful))
        return Passed(user=local.user, changes=Changes())

    def _recheck(self, local: Local, *, is_doubtful: bool) -> Steps[Passed | Turned]:
        try:
            if self.now < self.options.away_until <= self.now + _AWAY_SECONDS:
                raise NotAnswered("the worker did not answer a moment ago")
            if self.now >= local.renew_at:
                return (yield from self._ask_silently(local, timeout=_RECHECK_TIMEOUT_SECONDS))
            return (yield from self._ask_status(local))
        except Unavailable:
            age = self.now - local.checked_at
            limit = self.options.recheck + self.options.grace
            if is_doubtful or not -_SKEW_SECONDS < age < limit:
                raise
            if self.options.away_until <= self.now:
                self.options.away_until = self.now + _AWAY_SECONDS
            return Passed(user=local.user, changes=Changes())

    def _ask_status(self, local: Local) -> Steps[Passed | Turned]:
        named = {"user_id": local.user_id, "session_ref": local.session_ref}
        sessions = yield Ask("status", {**named, "timeout": _RECHECK_TIMEOUT_SECONDS})
        live = [known for known in sessions if known.session_ref == local.session_ref]
        if not live:
            return self._login(_NO_SESSION, local)
        checked = replace(local, amr=live[0].amr, checked_at=self.now)
        return Passed(user=checked.user, changes=Changes(local=checked))

    def _ask_silently(self, local: Local | None, **more: Any) -> Steps[Passed | Turned]:
        """Ask whose the browser's token is. *local* is what the session holds, also if over."""
        arguments = {"browser_token": self.token, **self.wants.demands(), **more}
        answer: SilentAnswer = yield Ask("silent_auth", arguments)
        match answer:
            case Authenticated():
                return (yield from self._found(answer, local))
            case StepUpRequired():
                return self._too_weak(answer, local)
            case LoginRequired(reason=Reason.TOKEN_REPLACED) if self._may_load_again:
                return outcome.redirect(self.request.way_back, Changes(headers=(_MARKER,)))
            case LoginRequired(reason=Reason.TOKEN_REPLACED as reason):
                # Of this token alone: our session may hold by now what the newer one has brought.
                return self._login(reason, None)
            case LoginRequired(reason=reason):
                return self._login(reason, local)

    def _found(self, answer: Authenticated, local: Local | None) -> Steps[Passed | Turned]:
        new = yield from admit(answer, self.options, token=self.token, asked_at=self.now)
        if new is None:
            return self._login(_LOGGED_OUT, local)
        cookies = tuple(self.options.cookie.headers_for(answer))
        is_another = local is not None and local.user_id != new.user_id
        if is_another and not self.request.may_sign_in_silently:
            return self._somebody_else(local, new, cookies)
        changes = Changes(local=new, empties=is_another, headers=cookies)
        return Passed(user=new.user, changes=changes)

    def _somebody_else(
        self, local: Local | None, new: Local, cookies: tuple[outcome.Header, ...]
    ) -> Turned:
        """Do nothing in the name of a user who was not here when the page was made."""
        if self.request.is_page:
            changes = Changes(local=new, empties=True, headers=cookies)
            return outcome.redirect(self.request.way_back, changes)
        return self._login(_NO_SESSION, local)

    def _too_weak(self, answer: StepUpRequired, local: Local | None) -> Turned:
        is_another = local is not None and local.user_id != answer.user_id
        changes = Changes(local=local.over() if local is not None and is_another else None)
        return outcome.step_up_required(
            self.request, self.options, answer, self.wants.max_age, changes
        )

    def _login(self, reason: str, local: Local | None) -> Turned:
        changes = Changes(local=local.over() if local is not None else None)
        return outcome.login_required(self.request, self.options, reason, changes)

    @property
    def _may_load_again(self) -> bool:
        if not self.request.may_sign_in_silently:
            return False
        return (_AGAIN, "1") not in browser_cookie.pairs(self.request.cookies)
