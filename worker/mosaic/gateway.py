"""The calls themselves: what is asked of Mosaic, and what of its answer is believed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote

import redis

from session_client.login_steps import LoginStep
from worker.errors import MosaicContractBroken
from worker.http_client import HttpAnswer
from worker.mosaic import login_calls
from worker.mosaic.asked import Endpoint
from worker.mosaic.authorised_calls import AuthorisedCalls, RepeatableCall, SingleCall
from worker.mosaic.client_token_cache import ClientTokenCache
from worker.mosaic.client_tokens import ClientTokens
from worker.mosaic.deadline import Deadline
from worker.mosaic.faults import Faults
from worker.mosaic.http_calls import MosaicHttp
from worker.mosaic.id_tokens import IdTokenVerifier
from worker.mosaic.jwks import KeySets
from worker.mosaic.login_calls import LoginCall, LoginFacts
from worker.mosaic.response_bodies import read_sessions, read_tokens
from worker.mosaic.types import (
    Identity,
    ListedSession,
    MosaicApp,
    Permit,
    SilentAuthCall,
    SilentAuthOptions,
    Tokens,
)
from worker.settings.model import Settings
from worker.storage.best_effort import BestEffortRedis
from worker.storage.encryption import KeyRing

_AUTH: Final = "/cis/v1/auth"
_USER: Final = "{userId}"
_ABOUT_USER: Final = {
    Endpoint.LIST_SESSIONS: ("GET", f"{_AUTH}/users/{_USER}/sessions"),
    Endpoint.DELETE_SESSIONS: ("DELETE", f"{_AUTH}/users/{_USER}/sessions"),
    Endpoint.DELETE_FRONTEND_SESSIONS: ("DELETE", f"/cis/v1/sessions/{_USER}"),
}


class MosaicGateway:
    """Every conversation with Mosaic. One per process, made after the fork; safe for all threads.

    ``timeout_seconds`` bounds a whole call: names, client token, request, second try, keys.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one for each part
        self,
        http: MosaicHttp,
        client_tokens: ClientTokens,
        id_tokens: IdTokenVerifier,
        faults: Faults,
        timeout_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self._http = http
        self.faults = faults
        self._client_tokens = client_tokens
        self._calls = AuthorisedCalls(http, client_tokens, faults)
        self._id_tokens = id_tokens
        self._timeout_seconds = timeout_seconds
        self._now = now

    def authenticate_session(
        self,
        permit: Permit,
        app: MosaicApp,
        call: SilentAuthCall,
        *,
        timeout_seconds: float,
    ) -> tuple[Tokens, Identity]:
        """Return tokens for *app* from a live session, verified to be the user's.

        The ID token proves it; where Mosaic sends none, the access token proves the user alone.
        Safe to repeat; Mosaic extends the session each time. Raises `SessionGone`,
        `WrongSubject`, `TokenRejected`, `MosaicUnavailable`, `MosaicRateLimited`,
        `ClientRefused`, `MosaicContractBroken`.
        """
        deadline = Deadline.after(timeout_seconds)
        payload = {"session_id": call.session_id, **_optional_fields(call.options)}
        body = self._post(permit, Endpoint.AUTHENTICATE, app, payload, deadline)
        tokens = read_tokens(body, call.session_id, self._now())
        return tokens, self._proven(app, tokens, call.user_id, deadline)

    def _proven(
        self, app: MosaicApp, tokens: Tokens, user_id: str | None, deadline: Deadline
    ) -> Identity:
        with self.faults.watch_tokens(app.app_id):
            if tokens.id_token is None:
                token = tokens.access_token
                return self._id_tokens.verify_access_token(app, token, user_id, deadline)
            return self._id_tokens.verify(app, tokens.id_token, user_id, deadline)

    def take_login_step(  # noqa: PLR0913 - what the table's row takes
        self,
        permit: Permit,
        app: MosaicApp,
        step: LoginStep,
        facts: LoginFacts,
        options: SilentAuthOptions,
        *,
        session_id: str | None = None,
        timeout_seconds: float,
    ) -> Mapping[str, Any]:
        """Return the body of the answer to one step of an active login.

        *session_id* names the session that a proof is added to. Never repeated once a byte was
        sent: a proof is used up, a code is on its way. A first step that Mosaic refused for our
        client token did neither: see `AuthorisedCalls.send_once`. Raises `OutcomeUnknown` when no
        answer says what became of it, `ProofRefused`, `UserRefused`, `SessionGone`,
        `InvalidRequest` for the app's own wishes, `MosaicUnavailable` when nothing was sent,
        `MosaicRateLimited`, `ClientRefused`, `MosaicContractBroken`.
        """
        deadline, call = Deadline.after(timeout_seconds), login_calls.CALLS[type(step)]
        wishes = _wishes(call, options)
        own = {**call.fields(step, facts, app), "session_id": session_id}
        once = SingleCall(
            call.endpoint,
            f"{app.base_url}{_AUTH}/{call.path_for(facts)}",
            {**_without_none(own), **wishes},
            options=tuple(sorted(wishes)),
            needs_client_token=call.needs_client_token,
            may_be_repeated=call.may_be_repeated,
        )
        return self._calls.send_once(permit, app, once, deadline)

    def require_keys(self, app: MosaicApp, *, timeout_seconds: float) -> None:
        """See to it that there is a key set to verify *app*'s tokens with; no call where there is.

        For what must not be sent while the worker could not read the answer. Raises
        `MosaicUnavailable` and `MosaicContractBroken`.
        """
        self._id_tokens.key_sets.require(app.jwks_url, Deadline.after(timeout_seconds))

    def refresh_tokens(
        self, permit: Permit, app: MosaicApp, refresh_token: str, *, timeout_seconds: float
    ) -> Mapping[str, Any]:
        """Return the body of the answer to a refresh token, which serves once.

        Raises as `take_login_step` does: never repeated once a byte was sent.
        """
        url = f"{app.base_url}{_AUTH}/{Endpoint.REFRESH}"
        once = SingleCall(Endpoint.REFRESH, url, {"refresh_token": refresh_token})
        return self._calls.send_once(permit, app, once, Deadline.after(timeout_seconds))

    def read_login(
        self, app: MosaicApp, body: Mapping[str, Any], session_id: str | None
    ) -> tuple[Tokens, Identity]:
        """Return the tokens of a completed login and whose they are, verified.

        Raises `TokenRejected`, `MosaicContractBroken`, and `MosaicUnavailable` when no keys can be
        had.
        """
        deadline = Deadline.after(self._timeout_seconds)
        tokens = read_tokens(body, session_id or "", self._now())
        if not tokens.session_id:
            raise MosaicContractBroken("a login: session_id is missing")
        return tokens, self._proven(app, tokens, None, deadline)

    def read_refreshed(
        self, app: MosaicApp, body: Mapping[str, Any], user_id: str
    ) -> tuple[Tokens, Identity]:
        """Return the tokens of a refresh, verified to be the user's; it names no session.

        Raises `WrongSubject`, and as `read_login` does.
        """
        deadline = Deadline.after(self._timeout_seconds)
        tokens = read_tokens(body, "", self._now())
        return tokens, self._proven(app, tokens, user_id, deadline)

    def logout_session(
        self, permit: Permit, app: MosaicApp, session_id: str, *, timeout_seconds: float
    ) -> None:
        """Return once Mosaic has ended the session, or never knew it. Safe to repeat.

        Raises `MosaicUnavailable`, `MosaicRateLimited`, `ClientRefused`, `LogoutRefused`,
        `MosaicContractBroken`.
        """
        deadline = Deadline.after(timeout_seconds)
        self._post(permit, Endpoint.LOGOUT, app, {"session_id": session_id}, deadline)

    def list_sessions(
        self, permit: Permit, app: MosaicApp, user_id: str, *, timeout_seconds: float
    ) -> list[ListedSession]:
        """Return the user's live backend sessions, without extending any.

        Raises as `logout_session` does.
        """
        body = self._ask_about_user(permit, app, Endpoint.LIST_SESSIONS, user_id, timeout_seconds)
        return read_sessions(body)

    def delete_sessions(
        self, permit: Permit, app: MosaicApp, user_id: str, *, timeout_seconds: float
    ) -> None:
        """Return once Mosaic has ended all backend sessions of the user, also the newest.

        Raises as `logout_session` does.
        """
        self._ask_about_user(permit, app, Endpoint.DELETE_SESSIONS, user_id, timeout_seconds)

    def delete_frontend_sessions(
        self, permit: Permit, app: MosaicApp, user_id: str, *, timeout_seconds: float
    ) -> None:
        """Return once Mosaic has ended all frontend sessions of the user, also the newest.

        Raises as `logout_session` does.
        """
        endpoint = Endpoint.DELETE_FRONTEND_SESSIONS
        self._ask_about_user(permit, app, endpoint, user_id, timeout_seconds)

    def verify_id_token(self, app: MosaicApp, id_token: str, user_id: str) -> Identity:
        """Return what an ID token an app handed in says of *user_id*.

        Raises `TokenRejected`, `WrongSubject`, and `MosaicUnavailable` when no keys can be had.
        """
        deadline = Deadline.after(self._timeout_seconds)
        return self._id_tokens.verify(app, id_token, user_id, deadline)

    def try_key_set(self, app: MosaicApp) -> datetime | None:
        """Fetch the app's key set anew; return what time it is at Mosaic, if it says so."""
        return self._id_tokens.key_sets.fetch(app.jwks_url, Deadline.after(self._timeout_seconds))

    def try_client(self, app: MosaicApp) -> None:
        """Fetch a client token for the app anew. Raises what keeps it from getting one."""
        self._client_tokens.fetch(app, Deadline.after(self._timeout_seconds))

    def close(self) -> None:
        """Close every connection."""
        self._http.close()

    def _post(
        self,
        permit: Permit,
        endpoint: Endpoint,
        app: MosaicApp,
        payload: Mapping[str, Any],
        deadline: Deadline,
    ) -> Any:
        url = f"{app.base_url}{_AUTH}/{endpoint}"
        options = tuple(sorted(payload.keys() - {"session_id"}))

        def send(token: str) -> HttpAnswer:
            return self._http.post_json(endpoint, url, payload, token, deadline)

        call = RepeatableCall(endpoint, url, send, options)
        return self._calls.ask(permit, app, call, deadline)

    def _ask_about_user(
        self, permit: Permit, app: MosaicApp, endpoint: Endpoint, user_id: str, seconds: float
    ) -> Any:
        method, path = _ABOUT_USER[endpoint]
        template, deadline = f"{app.base_url}{path}", Deadline.after(seconds)
        # A user id is any text: what is no letter or digit must not become a part of the path.
        url = template.replace(_USER, quote(user_id, safe=""))

        def send(token: str) -> HttpAnswer:
            return self._http.without_body(endpoint, method, url, token, deadline, template)

        return self._calls.ask(permit, app, RepeatableCall(endpoint, template, send), deadline)


def _optional_fields(options: SilentAuthOptions) -> dict[str, Any]:
    attributes = {"user_agent": options.user_agent, "ip_address": options.ip_address}
    fields = {
        "resource": options.resource,
        "claims": None if options.claims is None else dict(options.claims),
        "org_id": options.org_id,
        "client_attributes": _without_none(attributes) or None,
        "device_id": options.device_id,
    }
    return _without_none(fields)


def _wishes(call: LoginCall, options: SilentAuthOptions) -> dict[str, Any]:
    """Return which of the *options* the call takes."""
    taken = {"resource", "claims", "org_id", "client_attributes"} if call.shown is None else set()
    if call.takes_browser:
        taken.add("client_attributes")
    if call.takes_device_id:
        taken.add("device_id")
    return {name: value for name, value in _optional_fields(options).items() if name in taken}


def _without_none(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def build_gateway(
    settings: Settings,
    redis: redis.Redis,
    shared: BestEffortRedis,
    keyring: KeyRing,
    now: Callable[[], datetime],
) -> MosaicGateway:
    """Make the one `MosaicGateway` of this process.

    *redis* must have socket timeouts: one that hangs would otherwise hang every call.
    """
    proxy = settings.mosaic_proxy
    http = MosaicHttp(settings.ca_certificates, proxy.get_secret_value() if proxy else None)
    faults = Faults(redis, now)
    key_sets = KeySets(
        http,
        faults,
        now,
        max_age_seconds=settings.jwks_max_age_seconds,
        refetch_seconds=settings.jwks_refetch_seconds,
    )
    return MosaicGateway(
        http,
        ClientTokens(http, ClientTokenCache(shared, keyring), keyring, faults, now),
        IdTokenVerifier(key_sets, now, settings.clock_skew_seconds),
        faults,
        settings.mosaic_timeout_seconds,
        now,
    )
