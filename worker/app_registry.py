"""The registered apps, opened and kept for a few seconds.

A change by an operator takes effect within `RELOAD_AFTER_SECONDS`, unless the database is away; one
thread looks for it a little earlier: else all threads would, each the same, every few seconds. A
key id we do not know is looked for as soon as half a second after the last look, so that a fresh
key works at once. An app that is not there is looked for once a second: an attacker who can publish
could name it again and again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any, Final

from sqlalchemy import bindparam, select

from models import App, AppKey
from session_client.keys import AppKey as ClientKey
from worker.errors import OperatorMustAct, StoreUnavailable
from worker.mosaic import MosaicApp, endpoints_for
from worker.mosaic.client_authentication import credential_of
from worker.policy import Policy, policy_of
from worker.settings.model import Settings
from worker.storage.database import Store
from worker.storage.encryption import KeyRing, SealedValueUnreadable

RELOAD_AFTER_SECONDS: Final = 5.0
RENEW_AFTER_SECONDS: Final = 4.0
_RELOAD_FOR_UNKNOWN_KEY_AFTER_SECONDS: Final = 0.5
_UNKNOWN_FOR_SECONDS: Final = 1.0
_MAX_APPS: Final = 10_000
_MAX_UNKNOWN: Final = 1_000  # what they are called is the senders' choice

# What an operator may allow an app beyond its own sessions and the browsers that come to it: power
# over users who are not there. An app has none of them unless it was given.
SILENT_BY_USER: Final = "silent_by_user"  # tokens for a user it names, whoever is at the browser
LOGOUT_USER: Final = "logout_user"  # ending all of a user's sessions
REVOKE_USER: Final = "revoke_user"  # the same at Mosaic, also of what was never registered
OFFLINE: Final = "offline"  # refreshing tokens while the user is away
REVEALS_ACCOUNTS: Final = "reveals_accounts"  # hearing of whom a login names, before any proof
CAPABILITIES: Final = frozenset(
    {SILENT_BY_USER, LOGOUT_USER, REVOKE_USER, OFFLINE, REVEALS_ACCOUNTS}
)

# What an operator does about a sealed value of an app that does not open: by the app, and the key.
GIVEN_ANEW: Final = (
    "give it anew: mosaic-sessions apps set {0} --client-secret-file FILE, or --client-key-file "
    "FILE where its client has a key"
)
ANOTHER_KEY: Final = (
    "mosaic-sessions apps rotate-key {0}, give the app the new key, then mosaic-sessions apps "
    "retire-key {0} {1}"
)
_COLUMNS: Final = tuple(App.__table__.columns)
_NAMES: Final = (*(column.name for column in _COLUMNS), "key_id", "kid", "sealed_secret")
_APP_WITH_KEYS: Final = (  # a row for each of its keys, one without where it has none
    select(*_COLUMNS, AppKey.id, AppKey.kid, AppKey.sealed_secret)
    .outerjoin(AppKey, (AppKey.app_id == App.app_id) & AppKey.retired_at.is_(None))
    .where(App.app_id == bindparam("app"))
    .order_by(AppKey.created_at, AppKey.id)
)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownApp:
    """One registered app with everything a request of it needs."""

    app_id: str
    mosaic: MosaicApp
    keys: dict[str, ClientKey] = field(repr=False)
    policy: Policy
    capabilities: frozenset[str]
    methods: frozenset[str]
    # Where tickets for it are delivered, and the apps that may send them; None and none: nowhere.
    transfer_url: str | None
    tickets_from: frozenset[str]
    disabled_at: datetime | None
    rows: Sequence[Sequence[Any]] = field(repr=False)  # what it was opened from
    loaded_at: float

    def may(self, capability: str) -> bool:
        """Whether the operator gave the app *capability*."""
        return capability in self.capabilities


class AppRegistry:
    """Finds apps by id. Thread-safe."""

    def __init__(
        self,
        store: Store,
        keyring: KeyRing,
        settings: Settings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._keyring = keyring
        self._settings = settings
        self._monotonic = monotonic
        self._apps: dict[str, KnownApp] = {}
        self._unknown: dict[str, float] = {}  # until when they are believed not to be there
        self._lock = threading.Lock()
        self._renewing = threading.Lock()  # held by the one thread that looks early

    def find(self, app_id: str, kid: str | None = None) -> KnownApp | None:
        """Return the app, reread when it is old or does not have the key *kid*.

        Raises `StoreUnavailable` only when nothing is known of it.
        """
        known = self._apps.get(app_id)
        if known is not None and not self._is_stale(known, kid):
            return self._renewed(known) if self._is_due(known) else known
        if known is None and self._unknown.get(app_id, 0.0) > self._monotonic():
            return None
        return self._reload(app_id, known)

    def _renewed(self, known: KnownApp) -> KnownApp | None:
        if not self._renewing.acquire(blocking=False):
            return known
        try:
            return self._reload(known.app_id, known)
        finally:
            self._renewing.release()

    def _reload(self, app_id: str, known: KnownApp | None) -> KnownApp | None:
        try:
            rows = self._store.run(_APP_WITH_KEYS, {"app": app_id})
        except StoreUnavailable:
            if known is None:
                raise
            return known
        if known is not None and rows == known.rows:  # as nearly always
            fresh: KnownApp | None = replace(known, loaded_at=self._monotonic())
        else:
            fresh = self._open(rows) if rows else None
        self._remember(app_id, fresh)
        return fresh

    def is_of_same_mosaic(self, app: KnownApp, other_id: str) -> bool:
        """Whether another app's sessions are kept where *app* asks. Raises `StoreUnavailable`.

        A session's id is sent there: to a host that is not its own Mosaic's it would be given away,
        and an answer of that host says nothing of the session.
        """
        if app.app_id == other_id:
            return True
        try:
            other = self.find(other_id)
        except OperatorMustAct:
            return True  # its row does not open: that alone must keep no logout from being told
        # It is there: an app that has registered sessions is not removed.
        return other is None or other.mosaic.base_url == app.mosaic.base_url

    def _is_stale(self, known: KnownApp, kid: str | None) -> bool:
        age = self._monotonic() - known.loaded_at
        if kid is not None and kid not in known.keys:
            return age > _RELOAD_FOR_UNKNOWN_KEY_AFTER_SECONDS
        return age > RELOAD_AFTER_SECONDS

    def _is_due(self, known: KnownApp) -> bool:
        return self._monotonic() - known.loaded_at > RENEW_AFTER_SECONDS

    def _remember(self, app_id: str, app: KnownApp | None) -> None:
        with self._lock:
            if app is None:
                self._apps.pop(app_id, None)
                if len(self._unknown) >= _MAX_UNKNOWN:
                    self._unknown.clear()
                self._unknown[app_id] = self._monotonic() + _UNKNOWN_FOR_SECONDS
                return
            if len(self._apps) >= _MAX_APPS:
                self._apps.clear()
            self._apps[app_id] = app

    def _open(self, rows: Sequence[Sequence[Any]]) -> KnownApp:
        read: list[Any] = [SimpleNamespace(**dict(zip(_NAMES, row, strict=True))) for row in rows]
        app = read[0]
        opened = {
            key.kid: self._client_key(app.app_id, key) for key in read if key.key_id is not None
        }
        return KnownApp(
            app_id=app.app_id,
            mosaic=self._mosaic_app(app),
            keys=opened,
            policy=policy_of(app.amr_all_of, app.amr_any_of, app.max_age_seconds),
            capabilities=frozenset(app.capabilities),
            methods=frozenset(app.methods),
            transfer_url=app.transfer_url,
            tickets_from=frozenset(app.tickets_from),
            disabled_at=app.disabled_at,
            rows=rows,
            loaded_at=self._monotonic(),
        )

    def _client_key(self, app_id: str, key: Any) -> ClientKey:
        with _advising(ANOTHER_KEY.format(app_id, key.kid)):
            secret = self._keyring.open_bytes(key.sealed_secret, app_key_place(key.key_id))
        return ClientKey(key.kid, secret)

    def _mosaic_app(self, app: Any) -> MosaicApp:
        endpoints = endpoints_for(
            self._settings,
            base_url=app.base_url,
            token_url=app.token_url,
            jwks_url=app.jwks_url,
            issuer=app.issuer,
        )
        seconds = app.session_lifetime_seconds or self._settings.session_lifetime_seconds
        with _advising(GIVEN_ANEW.format(app.app_id)):
            value = self._keyring.open(app.sealed_client_secret, client_secret_place(app.app_id))
        return MosaicApp(
            app_id=app.app_id,
            client_id=app.client_id,
            credential=credential_of(app.token_endpoint_auth_method, value),
            base_url=endpoints.base_url,
            token_url=endpoints.token_url,
            jwks_url=endpoints.jwks_url,
            issuer=endpoints.issuer,
            session_lifetime=timedelta(seconds=seconds),
        )


@contextmanager
def _advising(what_to_do: str) -> Iterator[None]:
    """Say what to do about a value of an app that does not open."""
    try:
        yield
    except SealedValueUnreadable as error:
        raise SealedValueUnreadable(
            f"{error}. Where those of other apps do not open either, put the encryption keys "
            f"right; else {what_to_do}"
        ) from None


def client_secret_place(app_id: str) -> str:
    """Return what an app's sealed client secret, or private key, is bound to."""
    return f"apps:{app_id}:client_secret"


def app_key_place(key_id: object) -> str:
    """Return what a sealed app key is bound to."""
    return f"app_keys:{key_id}:secret"
