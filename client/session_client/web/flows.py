"""What an app's own pages do that sign in, step up or sign out."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from session_client.begun import Begun
from session_client.browser_cookie import CookieHeader
from session_client.contract import Reason
from session_client.errors import (
    OutcomeUnknown,
    Unavailable,
    WorkerUnavailable,
)
from session_client.login_steps import FirstStep, LoginStep, Proof, S, limits_of
from session_client.logins import Authenticate, Start
from session_client.requests import Request, Wishes
from session_client.values import (
    Authenticated,
    Denied,
    LoginAnswer,
    LoginRequired,
    SilentAnswer,
    StepUpRequired,
    Tokens,
)
from session_client.web import handles, outcome
from session_client.web.gate import admit
from session_client.web.incoming import Incoming
from session_client.web.local import Local, SignedIn
from session_client.web.logout import log_out
from session_client.web.options import Options
from session_client.web.outcome import (
    UNCACHED,
    Ask,
    Changes,
    Header,
    Steps,
    Turned,
    TurnedAway,
)

log: Final = logging.getLogger(__name__)

_NOT_ACCEPTED: Final = Denied(Reason.INVALID_CREDENTIALS.value)
_DECLARED: Final[Mapping[str, type[Request[Any]]]] = {"start": Start, "authenticate": Authenticate}


@dataclass(frozen=True, slots=True)
class Visit:
    """One request to a page that signs in or out, at the time *now* in seconds.

    *local* is what the framework's session holds, *written* the headers that the answer has so far:
    a page may begin a login and complete it in one request. The methods raise `TurnedAway` for a
    request that another site sent, for a worker that is away, and where a login was not begun here.
    """

    request: Incoming
    options: Options
    local: Local | None
    now: float
    written: tuple[Header, ...] = ()

    def log_in(
        self, proof: Proof, *, step_up: bool = False, more: Mapping[str, Any] | None = None
    ) -> Steps[tuple[LoginAnswer, Changes]]:
        """Sign in by a proof that needs no first step, or add it as a factor."""
        self._check_method()
        return (yield from self._authenticate(proof, is_step_up=step_up, more=more or {}))

    def begin(
        self, step: FirstStep[S], *, step_up: bool = False, more: Mapping[str, Any] | None = None
    ) -> Steps[tuple[S | Denied | LoginRequired, Changes]]:
        """Take the first step of a login, or of adding a factor, in this browser."""
        if step.needs_login:
            # Providers lead back by GET, from their own site: handle and state tell a forged one.
            self._check_origin()
        else:
            self._check_method()
        token = self._token
        if step_up and token is None:
            return LoginRequired(Reason.NO_SESSION.value), Changes(headers=UNCACHED)
        if _is_mistyped(step):
            return _NOT_ACCEPTED, Changes(headers=UNCACHED)
        known_browser = self.options.cookie.known(self._cookies)
        arguments = {"known_browser": known_browser, **(more or {})}
        gone_on_with = self._handle_for(step, is_step_up=step_up) if step.needs_login else None
        if step_up:
            arguments["step_up"] = token
        begun: S | Denied | LoginRequired = yield from self._asked(
            "start", {"step": step, **arguments}, gone_on_with
        )
        if not isinstance(begun, Begun):
            return begun, Changes(headers=(*self._tried(gone_on_with), *UNCACHED))
        is_secure = self.options.is_secure
        written = handles.write(
            begun,
            [known for known in self._handles if known != gone_on_with],
            next_step=step.next_step,
            is_step_up=step_up,
            is_secure=is_secure,
            now=self.now,
        )
        if gone_on_with is not None:
            written.append(handles.forget(gone_on_with, is_secure=is_secure))
        return begun, Changes(headers=(*written, *UNCACHED))

    def complete(
        self, proof: Proof, *, step_up: bool = False, more: Mapping[str, Any] | None = None
    ) -> Steps[tuple[LoginAnswer, Changes]]:
        """Complete the login that `begin` began in this browser, or the step-up; never the other.

        A page that asks for a factor would else take a login that was begun in another tab, also
        one of another user.
        """
        self._check_origin()
        handle = self._handle_for(proof, is_step_up=step_up)
        answer, changes = yield from self._authenticate(
            proof, is_step_up=step_up, more=more or {}, handle=handle
        )
        if isinstance(answer, Denied):
            return answer, changes.and_headers(*self._tried(handle))
        forgotten = handles.forget(handle, is_secure=self.options.is_secure)
        return answer, changes.and_headers(forgotten)

    def log_out(self) -> Steps[Turned]:
        """Sign out here and everywhere. Only a POST of this app's own does."""
        return (
            yield from log_out(
                self.request, self.options, self.local, token=self._token, now=self.now
            )
        )

    def tokens(self, user: SignedIn, wishes: Wishes) -> Steps[Tokens]:
        """Return tokens of *user*, who is signed in here, such as for another API."""
        named = {"user_id": user.user_id, "session_ref": user.session_ref}
        answer: SilentAnswer = yield from self._asked("silent_auth", {**named, "wishes": wishes})
        match answer:
            case Authenticated(tokens=tokens):
                return tokens
            case StepUpRequired():
                changes = Changes(headers=UNCACHED)
                turned = outcome.step_up_required(self.request, self.options, answer, None, changes)
            case LoginRequired(reason=reason):
                over = self.local.over() if self.local is not None else None
                changes = Changes(local=over, headers=UNCACHED)
                turned = outcome.login_required(self.request, self.options, reason, changes)
        raise TurnedAway(turned)

    def _authenticate(
        self,
        proof: Proof,
        *,
        is_step_up: bool,
        more: Mapping[str, Any],
        handle: handles.Handle | None = None,
    ) -> Steps[tuple[LoginAnswer, Changes]]:
        token = self._token
        if is_step_up and token is None:
            return LoginRequired(Reason.NO_SESSION.value), Changes(headers=UNCACHED)
        if _is_mistyped(proof):
            return _NOT_ACCEPTED, Changes(headers=UNCACHED)
        arguments = {
            "proof": proof,
            "step_up" if is_step_up else "replaces": token,
            "known_browser": self.options.cookie.known(self._cookies),
            **more,
        }
        answer: LoginAnswer = yield from self._asked("authenticate", arguments, handle)
        if not isinstance(answer, Authenticated | StepUpRequired):
            return answer, Changes(headers=UNCACHED)
        self._warn_of_a_lost_cookie()
        changes = Changes(headers=(*self.options.cookie.headers_for(answer), *UNCACHED))
        if isinstance(answer, StepUpRequired):
            return answer, replace(changes, empties=self._is_another(answer.user_id))
        local = yield from admit(answer, self.options, token=token, asked_at=self.now)
        if local is None:
            # A notice of its end has overtaken the answer: no session, and no cookie of it.
            return LoginRequired(Reason.LOGGED_OUT.value), Changes(headers=UNCACHED)
        changes = replace(changes, local=local, empties=self._is_another(answer.user_id))
        return answer, changes

    def _warn_of_a_lost_cookie(self) -> None:
        """Say why the next page asks for a login again: nothing else would."""
        if not self.options.cookie.is_taken_from(self.request.host):
            log.warning(
                "the browser is at %.100r, which is not below cookie_domain: it drops the cookie, "
                "and the next page asks for a login again; on a laptop say localhost",
                self.request.host,
            )

    def _asked(
        self, call: str, arguments: dict[str, Any], handle: handles.Handle | None = None
    ) -> Steps[Any]:
        """Return what the worker answers, of what goes on with *handle* if there is one."""
        if handle is not None:
            arguments = {**arguments, "login": handle.login}
            payload = _DECLARED[call](**arguments).payload()
            arguments["request_id"] = handle.request_id_of(payload)
        try:
            return (yield Ask(call, arguments))
        except Unavailable as error:
            turned = outcome.unavailable(self.request, error)
            if isinstance(error, WorkerUnavailable | OutcomeUnknown):
                # It was an answer, which would come again; else the next try may find another one.
                changes = turned.changes.and_headers(*self._tried(handle))
                turned = replace(turned, changes=changes)
            raise TurnedAway(turned) from error

    def _tried(self, handle: handles.Handle | None) -> list[Header]:
        if handle is None:
            return []
        return [handles.tried(handle, is_secure=self.options.is_secure, now=self.now)]

    def _handle_for(self, step: LoginStep, *, is_step_up: bool) -> handles.Handle:
        handle = handles.to_go_on_with(self._handles, step, is_step_up=is_step_up)
        if handle is None:
            if handles.to_go_on_with(self._handles, step, is_step_up=not is_step_up):
                log.warning(
                    "this browser has begun a %s, and the page goes on with a %s by %s: "
                    "step_up=True belongs in both calls or in neither",
                    *(("login", "step-up") if is_step_up else ("step-up", "login")),
                    type(step).__name__,
                )
            raise TurnedAway(outcome.begun_elsewhere(self.request))
        return handle

    def _check_method(self) -> None:
        if not self.request.has_effects:
            raise TurnedAway(outcome.wrong_method("POST"))
        self._check_origin()

    def _check_origin(self) -> None:
        if self.request.has_effects and not self.request.is_from_here(self.options.trusted_origins):
            raise TurnedAway(outcome.foreign(self.request))

    def _is_another(self, user_id: str) -> bool:
        return self.local is not None and self.local.user_id != user_id

    @property
    def _cookies(self) -> CookieHeader:
        if not self.written:
            return self.request.cookies
        return outcome.cookies_after(self.request.cookies, self.written)

    @property
    def _token(self) -> str | None:
        return self.options.cookie.read(self._cookies)

    @property
    def _handles(self) -> list[handles.Handle]:
        is_secure = self.options.is_secure
        return handles.read(self._cookies, is_secure=is_secure, now=self.now)


def _is_mistyped(step: LoginStep) -> bool:
    """Whether a person has left a field empty, or typed what no name or code can be.

    The worker need not be asked about it, and it is no fault of the app's.
    """
    return any(
        isinstance(value := getattr(step, name), str)
        and not limits.one_of
        and not limits.allow(value)
        for name, limits in limits_of(type(step)).items()
    )
