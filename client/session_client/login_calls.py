"""Signing in actively: passwords, codes, links, passkeys; tickets; and tokens for later."""

from __future__ import annotations

from session_client import answers, logins, requests
from session_client.contract import Verdict
from session_client.login_steps import FirstStep, Proof, S
from session_client.logins import Wishes
from session_client.sender import (
    DEFAULT_LOGIN_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    Sender,
)
from session_client.started import Started, answer_to
from session_client.unsent import no_token


class LoginCalls(Sender):
    """The calls of a client that begin and complete logins."""

    def start(  # noqa: PLR0913 - each argument is a field of the contract
        self,
        step: FirstStep[S],
        *,
        login: str | None = None,
        step_up: str | None = None,
        known_browser: str | None = None,
        device_id: str | None = None,
        user_agent: str | None = None,
        ip_address: str | None = None,
        request_id: str | None = None,
        timeout: float = DEFAULT_LOGIN_TIMEOUT_SECONDS,
    ) -> Started[S]:
        """Begin a login, or a step-up: send a code or a link, go to a provider, ask for a passkey.

        Args:
            step: what to begin with, such as ``SendOtp("sms", "+44…", "phone_number")``.
            login: for `VerifySocial`, the handle that `BeginSocial` gave.
            step_up: this browser's token, to add a factor to its session. Who that is the worker
                knows: leave the identifier out.
            known_browser: the mark of this browser, as `BrowserCookie.known` returned it.
            device_id: the app's name for the device.
            user_agent: the browser's, for Mosaic's risk assessment and audit.
            ip_address: the browser's, likewise, from the app's own proxy alone.
            request_id: the idempotency key; a new one unless given.
            timeout: in seconds.

        With verdict ``ok`` the answer's ``begun`` holds the handle, ``login``, and what to show or
        to pass on. It is ``ok`` for users who do not exist as well: "if we know you, a code is on
        its way". Keep the handle for this browser: what completes the login needs it.
        """
        request = logins.Start(
            step=step,
            login=login,
            step_up=step_up,
            known_browser=known_browser,
            device_id=device_id,
            user_agent=user_agent,
            ip_address=ip_address,
        )
        kind = answer_to(step)
        return self.send(request, kind, request_id=request_id, timeout=timeout).wait(timeout)

    def authenticate(  # noqa: PLR0913
        self,
        proof: Proof,
        *,
        login: str | None = None,
        step_up: str | None = None,
        replaces: str | None = None,
        known_browser: str | None = None,
        device_id: str | None = None,
        wishes: Wishes | None = None,
        request_id: str | None = None,
        timeout: float = DEFAULT_LOGIN_TIMEOUT_SECONDS,
    ) -> answers.Authentication:
        """Complete a login, or add a factor to this browser's session.

        Args:
            proof: such as ``Password("ada", "…")`` or ``Code("123456")``.
            login: the handle that this browser's first step gave, where there was one.
            step_up: this browser's token, to add the factor to its session.
            replaces: in a login, the browser token that the browser came with, if it did. The
                session that it names is ended: one browser, one session.
            known_browser: the mark of this browser, as `BrowserCookie.known` returned it.
            device_id: the app's name for the device, if it logs devices out.
            wishes: what the tokens are to be for.
            request_id: the idempotency key; a new one unless given. A request that is repeated
                with it, unchanged, gets the same answer: the proof is not used a second time.
            timeout: in seconds.

        Verdicts: ``authenticated`` with ``tokens``, ``user_id``, ``session_ref`` and
        ``browser_token``; ``interaction_required``, with a ``browser_token`` to step up with;
        ``access_denied``, whose ``reason`` says what may be shown; ``login_required`` when the
        session of a step-up has ended meanwhile. With ``temporarily_unavailable`` and
        ``outcome_unknown`` nobody knows whether the proof was used: let the user begin anew.
        """
        request = logins.Authenticate(
            proof=proof,
            login=login,
            step_up=step_up,
            replaces=replaces,
            known_browser=known_browser,
            device_id=device_id,
            wishes=wishes or Wishes(),
        )
        pending = self.send(request, answers.Authentication, request_id=request_id, timeout=timeout)
        return pending.wait(timeout)

    def refresh(
        self,
        refresh_token: str,
        *,
        request_id: str | None = None,
        timeout: float = DEFAULT_LOGIN_TIMEOUT_SECONDS,
    ) -> answers.Authentication:
        """Exchange a refresh token for fresh tokens while the user is away.

        Args:
            refresh_token: of `Tokens`, as this app was given it. The app needs a capability from
                the operator, or it is given none.
            request_id: the idempotency key; a new one unless given.
            timeout: in seconds.

        With verdict ``authenticated`` the answer's ``tokens`` hold the next refresh token: store
        it in place of the old one, which serves no second time. Whoever brings the old one within
        a minute gets the same answer. It extends no session, and gives nothing once the session
        has ended: ``login_required``. With ``outcome_unknown`` the old one is lost perhaps: ask
        with `silent_auth`, or let the user sign in.
        """
        request = requests.Refresh(refresh_token=refresh_token)
        pending = self.send(request, answers.Authentication, request_id=request_id, timeout=timeout)
        return pending.wait(timeout)

    def ticket(
        self,
        *,
        browser_token: str | None,
        for_app: str,
        challenge: str,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> answers.Ticket:
        """Carry this browser's session to an app on another domain.

        Args:
            browser_token: of this browser, as `BrowserCookie.read` returned it.
            for_app: the other app's name at the worker.
            challenge: that the other app sent the browser here with.
            timeout: in seconds.

        With verdict ``ok`` send the browser with ``ticket`` to ``transfer_url``, which is the other
        app's own. With ``login_required`` nobody is signed in here.
        """
        if browser_token is None:
            return answers.Ticket(verdict=Verdict.LOGIN_REQUIRED, **no_token())
        request = requests.IssueTicket(
            browser_token=browser_token, for_app=for_app, challenge=challenge
        )
        return self.send(request, answers.Ticket, timeout=timeout).wait(timeout)
