"""Fills the databases: every user signed in, once for us and once for the peer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import create_engine, insert

from benchmarks import people
from benchmarks.peers import peer
from models import BrowserToken, IdpSession, new_id
from models.browser_token import TokenOrigin
from session_client.contract import Method
from session_client.keys import AppKey
from worker.app_registry import SILENT_BY_USER
from worker.mosaic import ClientSecret
from worker.operations.app_description import NewApp
from worker.operations.apps import add_app
from worker.sessions import mosaic_ids
from worker.storage.encryption import Hashed
from worker.wiring import Services

_LIFETIME = timedelta(days=14)


def add_apps(services: Services) -> dict[str, AppKey]:
    """Register the apps and return their keys."""
    return {
        app_id: add_app(
            services,
            NewApp(
                app_id=app_id,
                client_id=people.client_id(app_id),
                credential=ClientSecret(people.client_secret(app_id)),
                capabilities=(SILENT_BY_USER,),
                methods=(Method.PASSWORD.value,),
            ),
        )
        for app_id in people.APP_IDS
    }


def sign_in_all(services: Services) -> None:
    """Give each user a live session, as if their app had just registered it."""
    now = services.now()
    rows, tokens = [], []
    for number in range(people.USERS):
        user, row_id = people.user_id(number), new_id()
        tokens.append(
            {
                "token_hash": services.keyring.keyed_hash(
                    Hashed.BROWSER_TOKEN, people.browser_token(user)
                ),
                "idp_session_id": row_id,
                "issued_to": people.app_of(number),
                "origin": TokenOrigin.LOGIN.value,
                "issued_at": now,
            }
        )
        session_id = people.session_id(user)
        rows.append(
            {
                "id": row_id,
                "user_id": user,
                "session_hash": services.keyring.lookup_hash(session_id),
                "sealed_session_id": services.keyring.seal(session_id, mosaic_ids.place_of(row_id)),
                "registered_by": people.app_of(number),
                "amr": ["pwd"],
                "authenticated_at": now,
                "amr_as_of": now,
                "created_at": now,
                "last_used_at": now,
                "expires_at": now + _LIFETIME,
                "version": 1,
            }
        )
    with services.store.write() as connection:
        connection.execute(insert(IdpSession), rows)
        connection.execute(insert(BrowserToken), tokens)
    _analyze(services.settings.store_url)


def sign_in_all_at_the_peer(database_url: str) -> None:
    """The same for the hand-written worker."""
    now = datetime.now(UTC)
    engine = create_engine(database_url)
    peer.Base.metadata.create_all(engine)
    rows = []
    for number in range(people.USERS):
        user = people.user_id(number)
        rows.append(
            {
                "user_id": user,
                "session_id": people.session_id(user),
                "authenticated_at": now,
                "expires_at": now + _LIFETIME,
            }
        )
    with engine.begin() as connection:
        connection.execute(insert(peer.UserSession), rows)
    engine.dispose()
    _analyze(database_url)


def _analyze(database_url: str) -> None:
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql("ANALYZE")
    engine.dispose()
