"""`SessionClient`: what a backend app holds to sign its users in and out."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from session_client import answers, contract, ended, messages, requests, sealing, timeouts
from session_client.contract import LogoutScope, LogoutWait, Verdict
from session_client.keys import AppKey
from session_client.login_calls import LoginCalls
from session_client.messages import Message
from session_client.notices import LogoutNotice
from session_client.sender import (
    DEFAULT_LOGOUT_TIMEOUT_SECONDS,
    DEFAULT_TIMEOUT_SECONDS,
    check_wait,
)
from session_client.unsent import NOT_GIVEN, NotGiven, check_alone, given_or_none, no_token


class SessionClient(LoginCalls):
    """Asks the session worker on behalf of one app.

    Share one per process among all threads. It may be made before the process forks, and opens
    its connections on first use.

    Args:
        broker_url: where the worker's Celery broker is, e.g. ``rediss://user:password@host/0``.
            Environment variables such as ``CELERY_BROKER_URL`` do not change it.
        app_id: this app's name at the worker, as given to ``mosaic-sessions apps add``.
        app_key: the key that command printed. Keep it like a password.
        reply_url: the Redis that carries answers; the broker's unless the broker is no Redis.

    Raises `InvalidArgumentError`, which names the argument, and `InvalidAppKeyError`; neither
    quotes URL or key. Nothing is connected to yet.

    Every call blocks its thread. In an async handler run it on another one, or all requests of the
    process wait with it: ``await asyncio.to_thread(client.silent_auth, user_id="ada")``, or
    ``run_in_threadpool`` of Starlette and FastAPI.

    Every call takes ``timeout`` in seconds (fractions count) and returns an answer with a verdict
    or raises one of `session_client.errors` within about that time, also when the broker is dead
    or accepts connections and never answers:

    - `InvalidArgumentError`: the call cannot be a request, or its ``timeout`` is no duration;
    - `BrokerUnavailable`: the broker does not take the request, or cannot be asked for the answer;
    - `NotAnswered`: the request was sent, and no answer came;
    - `SealBroken`: an answer came that this app's key does not open, or to another request;
    - `NotAcknowledged`: instead of the last three, from the calls that are repeated until the
      worker has confirmed them (`logout`, `confirm_notice`, `register` when asked to); also when it
      refuses a logout or a confirmation.
    """

    def register(  # noqa: PLR0913 - each argument is a field of the contract
        self,
        *,
        user_id: str,
        session_id: str,
        id_token: str,
        device_id: str | None = None,
        replaces: str | None = None,
        until_acknowledged: bool = False,
        request_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> answers.Registration:
        """Tell the worker of a session after an active login, or again after an added factor.

        Args:
            user_id: whose session it is.
            session_id: Mosaic's session id. Keep no copy: `silent_auth` does not need it.
            id_token: from that login, for this app's client; it proves user and factors.
            device_id: the app's name for the device, if it logs devices out.
            replaces: the browser token that the browser came with, if it did. Another session that
                it names is ended, or nobody could log it out from there any more.
            until_acknowledged: repeat the request under one request id until the worker has
                answered, and raise `NotAcknowledged` when it does not answer.
            request_id: of an earlier `NotAcknowledged`, to repeat that very request.
            timeout: in seconds.

        The answer's ``session_ref`` names the session from now on and is no secret; its
        ``browser_token`` names it in this browser, and is one: see `BrowserCookie`. A refusal,
        such as an invalid token, is an answer with another verdict than ``ok``.
        """
        request = requests.Register(
            user_id=user_id,
            session_id=session_id,
            id_token=id_token,
            device_id=device_id,
            replaces=replaces,
        )
        if until_acknowledged:
            message = self._seal(request, request_id, contract.MAX_LIFETIME[request.task])
            return self._republisher.until_answered(message, answers.Registration, timeout)
        pending = self.send(request, answers.Registration, request_id=request_id, timeout=timeout)
        return pending.wait(timeout)

    def silent_auth(  # noqa: PLR0913
        self,
        *,
        browser_token: str | NotGiven | None = NOT_GIVEN,
        session_ref: str | None = None,
        user_id: str | None = None,
        ticket: str | None = None,
        verifier: str | None = None,
        replaces: str | None = None,
        device_id: str | None = None,
        amr_all_of: tuple[str, ...] = (),
        amr_any_of: tuple[str, ...] = (),
        max_age: int | None = None,
        resource: str | None = None,
        claims: dict[str, Any] | None = None,
        org_id: str | None = None,
        user_agent: str | None = None,
        ip_address: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> answers.Authentication:
        """Sign in whoever is at the browser without asking them, if a live session allows it.

        Args:
            browser_token: of this browser, as `BrowserCookie.read` returned it. None, if given,
                says that it has none: ``login_required``, and nobody is asked.
            session_ref: of this user's session, both as this app's own session remembers them.
            user_id: with *session_ref*; or alone, for a user whom the app names, whoever is at the
                browser. That needs a capability from the operator.
            ticket: that brought this browser here from an app on another domain.
            verifier: of that ticket, as this app keeps it for this browser.
            replaces: with *ticket*, the browser token that the browser came with, if it did.
            device_id: use only sessions registered with this device; without it, only sessions
                registered without any.
            amr_all_of: methods (``amr`` values) the session must all have; they add to the
                app's policy and cannot weaken it.
            amr_any_of: methods of which it must have one.
            max_age: seconds since the last active login, at most.
            resource: the API the access token is for.
            claims: the OIDC ``claims`` parameter.
            org_id: the organization to sign in to.
            user_agent: the browser's, for Mosaic's risk assessment and audit.
            ip_address: the browser's, likewise.
            timeout: in seconds; the worker drops the request after it.

        The session is named in exactly one of these ways: *browser_token*, *session_ref*,
        *ticket*, *user_id*. What it names is tried, and nothing else.

        Verdicts: ``authenticated`` with ``tokens``, ``login_required``, ``interaction_required``
        with what is missing, or ``temporarily_unavailable`` with ``retry_after`` in seconds.
        """
        if browser_token is None:
            check_alone(session_ref, user_id, ticket, verifier, replaces)
            return answers.Authentication(verdict=Verdict.LOGIN_REQUIRED, **no_token())
        request = requests.SilentAuth(
            browser_token=given_or_none(browser_token),
            session_ref=session_ref,
            user_id=user_id,
            ticket=ticket,
            verifier=verifier,
            replaces=replaces,
            device_id=device_id,
            amr_all_of=amr_all_of,
            amr_any_of=amr_any_of,
            max_age=max_age,
            resource=resource,
            claims=claims,
            org_id=org_id,
            user_agent=user_agent,
            ip_address=ip_address,
        )
        return self.send(request, answers.Authentication, timeout=timeout).wait(timeout)

    def status(
        self, *, user_id: str, timeout: float = DEFAULT_TIMEOUT_SECONDS
    ) -> answers.SessionList:
        """List *user_id*'s live sessions that this app shares, newest first, 100 at most.

        Costs no call to Mosaic and extends nothing. *timeout* is in seconds.
        """
        request = requests.Status(user_id=user_id)
        return self.send(request, answers.SessionList, timeout=timeout).wait(timeout)

    def logout(  # noqa: PLR0913
        self,
        *,
        browser_token: str | NotGiven | None = NOT_GIVEN,
        user_id: str | None = None,
        scope: LogoutScope | str = LogoutScope.SESSION,
        session_ref: str | None = None,
        session_id: str | None = None,
        device_id: str | None = None,
        request_id: str | None = None,
        wait: LogoutWait | str = LogoutWait.LOCAL,
        timeout: float = DEFAULT_LOGOUT_TIMEOUT_SECONDS,
    ) -> answers.LogoutReceipt:
        """End sessions everywhere. Returning means: committed, it cannot be lost any more.

        Args:
            browser_token: of this browser, as `BrowserCookie.read` returned it; alone, and whoever
                shares the session. None, if given, says that the browser has none: nothing ends.
            user_id: whose sessions, unless a browser token says so.
            scope: ``session`` (named by *session_ref* or *session_id*), ``device`` (named by
                *device_id*), or ``user``, which needs a capability from the operator.
            session_ref: from an earlier answer; this app must share the session.
            session_id: Mosaic's session id, for an app that never registered it, or whose
                registration may still be on its way. The id is proof enough.
            device_id: as registered.
            request_id: of an earlier `NotAcknowledged`, to repeat that very request.
            wait: for ``local``, the commit here; ``idp``, Mosaic as well; or ``all``, every app
                that shares the session as well. A receipt that is not there yet by *timeout* is
                returned as it stands: the logout is committed, ask again with `receipt`.
            timeout: in seconds.

        The request is repeated under one request id until the worker has acknowledged it.
        Raises `NotAcknowledged` otherwise: treat the user as *not yet* logged out elsewhere, and
        call again with the error's ``request_id``, unless its ``is_final`` says that the worker
        refused.
        """
        check_wait(wait)
        timeouts.lifetime(timeout)
        until = time.monotonic() + timeout
        if browser_token is None and scope == LogoutScope.SESSION:
            check_alone(user_id, session_ref, session_id, device_id)
            return answers.LogoutReceipt(verdict=Verdict.OK, **no_token())
        message = self.seal_logout(
            browser_token=given_or_none(browser_token),
            user_id=user_id,
            scope=scope,
            session_ref=session_ref,
            session_id=session_id,
            device_id=device_id,
            request_id=request_id,
        )
        receipt = self.send_logout(message.request_id, message.envelope, timeout=timeout)
        ended.SEEN.add(session_ref)
        return self._wait_for(wait, receipt, until)

    def revoke_user(
        self,
        user_id: str,
        *,
        frontend: bool = False,
        request_id: str | None = None,
        wait: LogoutWait | str = LogoutWait.LOCAL,
        timeout: float = DEFAULT_LOGOUT_TIMEOUT_SECONDS,
    ) -> answers.LogoutReceipt:
        """End everything of a user, at Mosaic too, also what was never registered.

        Args:
            user_id: whose sessions. The app needs a capability from the operator.
            frontend: also the sessions that front ends hold by themselves.
            request_id: of an earlier `NotAcknowledged`, to repeat that very request.
            wait: as of `logout`; the receipt's ``idp_user`` says what Mosaic has confirmed.
            timeout: in seconds.

        Repeated, and raises, as `logout` does. The user may sign in again.
        """
        check_wait(wait)
        timeouts.lifetime(timeout)
        until = time.monotonic() + timeout
        request = requests.RevokeUser(user_id=user_id, frontend=frontend)
        message = self._seal(request, request_id, contract.MAX_LIFETIME[request.task])
        return self._wait_for(wait, self._until_committed(message, timeout), until)

    def confirm_notice(
        self,
        notice: LogoutNotice,
        *,
        request_id: str | None = None,
        timeout: float = DEFAULT_TIMEOUT_SECONDS,
    ) -> None:
        """Tell the worker that a notice from this app's queue was acted on.

        Args:
            notice: as `session_client.open_notice` returned it.
            request_id: of an earlier `NotAcknowledged`, to repeat that very request.
            timeout: in seconds.

        Raises `NotAcknowledged`. Until the worker knows, the notice comes again by itself, so that
        an app may also let the error pass and confirm the next one.
        """
        request = requests.ConfirmNotice(notice_id=notice.notice_id)
        message = self._seal(request, request_id, contract.MAX_LIFETIME[request.task])
        self._republisher.until_acknowledged(message, answers.Answer, timeout)

    def seal_logout(self, *, request_id: str | None = None, **fields: Any) -> Message:
        """Return a logout as it will be sent, to keep it somewhere safe first (`LogoutSpool`)."""
        request = requests.Logout(**fields)
        return self._seal(request, request_id, contract.MAX_LIFETIME[request.task])

    def reseal_logout(self, envelope: str, *, earlier_keys: Iterable[AppKey] = ()) -> Message:
        """Return the same logout as a request of now, under today's key. Raises `SealBroken`."""
        keys = (self._key, *earlier_keys)
        return messages.reseal(envelope, app_id=self._app_id, keys=keys)

    def can_open_answer_to(self, envelope: str) -> bool:
        """Whether *envelope* was sealed with today's key: its answer will be as well."""
        return sealing.header_of(envelope).get("kid") == self._key.kid
