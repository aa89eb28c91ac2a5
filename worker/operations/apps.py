"""What operators do with apps: register, list, change, give new keys, disable."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from models import App, AppKey, NoticeMethod, new_id
from session_client.keys import AppKey as ClientKey
from worker.app_registry import app_key_place, client_secret_place
from worker.mosaic import ClientCredential
from worker.operations.app_description import (
    AppChoices,
    AppError,
    AppInfo,
    NewApp,
    check_choices,
    check_new,
    check_notice,
)
from worker.sessions import operator_trail
from worker.sessions.operator_trail import Action
from worker.settings.validators import without_password
from worker.wiring import Services

_NOT_SHOWN: Final = ("the one before", "a new one")
_URLS: Final = ("transfer_url", "base_url", "token_url", "jwks_url")


def add_app(services: Services, new: NewApp) -> ClientKey:
    """Register an app and return its first key: the only time it is shown."""
    check_new(services, new)
    key = ClientKey.generate()
    try:
        with services.store.write() as connection:
            _require_sources(connection, new.app_id, new.tickets_from)
            connection.execute(insert(App).values(_row(services, new)))
            _add_key(connection, services, new.app_id, key)
            after = _remembered(connection, new.app_id) | {"key": key.kid}
            _note(connection, services, Action.APP_ADDED, new.app_id, after=after)
    except IntegrityError:
        raise AppError(f"an app {new.app_id!r} or a client {new.client_id!r} exists") from None
    return key


def list_apps(services: Services) -> list[AppInfo]:
    """Return all apps, by name."""
    with services.store.read() as connection:
        apps = connection.execute(select(App.__table__).order_by(App.app_id)).all()
        live = select(AppKey.app_id, AppKey.kid).where(AppKey.retired_at.is_(None))
        keys = connection.execute(live.order_by(AppKey.created_at, AppKey.id)).all()
    return [
        AppInfo(
            app_id=app.app_id,
            client_id=app.client_id,
            token_endpoint_auth_method=app.token_endpoint_auth_method,
            **_choices_in(app),
            notice_method=app.notice_method,
            notice_address=_shown_address(app.notice_method, app.notice_address),
            notify_on_expiry=app.notify_on_expiry,
            kids=tuple(key.kid for key in keys if key.app_id == app.app_id),
            created_at=app.created_at,
            disabled_at=app.disabled_at,
        )
        for app in apps
    ]


def find_app(services: Services, app_id: str) -> AppInfo:
    """Return one app. Raises `AppError` when there is none."""
    found = {app.app_id: app for app in list_apps(services)}
    if app_id not in found:
        raise _no_app(app_id)
    return found[app_id]


def _shown_address(method: str | None, address: str | None) -> str | None:
    # The query of a URL may be a secret.
    return without_password(str(address)) if method == NoticeMethod.BACKCHANNEL else address


def set_app(
    services: Services,
    app_id: str,
    *,
    credential: ClientCredential | None = None,
    allow: Collection[str] = (),
    deny: Collection[str] = (),
    **changes: Any,
) -> None:
    """Change what the app's client proves itself by, if it is given, and the `AppChoices` named.

    Capabilities are given and taken one by one, by *allow* and *deny*. What is not named stays as
    it is. Workers serve the app like this once they have reread it.
    """
    with services.store.write() as connection:
        query = select(App.__table__).where(App.app_id == app_id).with_for_update(key_share=True)
        app = connection.execute(query).one_or_none()
        if app is None:
            raise _no_app(app_id)
        was = _remembered(connection, app_id)
        capabilities = tuple(sorted({*app.capabilities, *allow}.difference(deny)))
        before = _choices_in(app) | {"capabilities": capabilities}
        choices = AppChoices(**(before | changes))
        check_choices(services, choices)
        if "tickets_from" in changes:
            _require_sources(connection, app_id, choices.tickets_from)
        values = _choice_columns(choices)
        if credential is not None:
            values |= _credential_columns(services, app_id, credential)
        connection.execute(update(App).where(App.app_id == app_id).values(values))
        after = _remembered(connection, app_id)
        if credential is not None:
            was["client_credential"], after["client_credential"] = _NOT_SHOWN
        _note(connection, services, Action.APP_CHANGED, app_id, before=was, after=after)
    services.mosaic.faults.forget()


def rotate_key(services: Services, app_id: str) -> ClientKey:
    """Give the app one more key. The old ones stay valid until `retire_key`."""
    key = ClientKey.generate()
    with services.store.write() as connection:
        _require(connection, app_id)
        _add_key(connection, services, app_id, key)
        _note(connection, services, Action.APP_KEY_ADDED, app_id, after={"key": key.kid})
    return key


def retire_key(services: Services, app_id: str, kid: str) -> None:
    """Make one key invalid. The last one cannot be retired: disable the app instead."""
    with services.store.write() as connection:
        live = select(AppKey.kid).where(AppKey.app_id == app_id, AppKey.retired_at.is_(None))
        kids = set(connection.execute(live.with_for_update()).scalars())
        if kid not in kids:
            raise AppError(f"app {app_id!r} has no live key {kid!r}")
        if len(kids) == 1:
            raise AppError("that is the app's last key: rotate first, or disable the app")
        connection.execute(
            update(AppKey)
            .where(AppKey.app_id == app_id, AppKey.kid == kid)
            .values(retired_at=services.now())
        )
        _note(connection, services, Action.APP_KEY_RETIRED, app_id, before={"key": kid})


def disable_app(services: Services, app_id: str) -> None:
    """Refuse the app's requests from now on. Its sessions stay for the other apps."""
    _set_disabled(services, app_id, services.now())


def enable_app(services: Services, app_id: str) -> None:
    """Serve the app's requests again."""
    _set_disabled(services, app_id, None)


def set_notice(
    services: Services,
    app_id: str,
    method: NoticeMethod | None,
    address: str | None,
    *,
    notify_on_expiry: bool | None = None,
) -> None:
    """Say how and where the app is told that a session has ended; notices still open follow.

    None for *notify_on_expiry* leaves it as it is, but an app that is told of nothing is not
    told of expiry.
    """
    with services.store.write() as connection:
        _require(connection, app_id)
        if notify_on_expiry is None:
            before = select(App.notify_on_expiry).where(App.app_id == app_id)
            notify_on_expiry = connection.execute(before).scalar_one() and method is not None
        check_notice(services, method, address, notify_on_expiry)
        was = _remembered(connection, app_id)
        connection.execute(
            update(App)
            .where(App.app_id == app_id)
            .values(
                notice_method=None if method is None else method.value,
                notice_address=address,
                notify_on_expiry=notify_on_expiry,
            )
        )
        after = _remembered(connection, app_id)
        _note(connection, services, Action.APP_NOTICES_CHANGED, app_id, before=was, after=after)


def remove_unused_app(services: Services, app_id: str) -> None:
    """Delete an app that never shared a session: a slip of the keyboard."""
    try:
        with services.store.write() as connection:
            _require(connection, app_id)
            was = _remembered(connection, app_id)
            connection.execute(delete(App).where(App.app_id == app_id))
            _note(connection, services, Action.APP_REMOVED, app_id, before=was)
    except IntegrityError:
        raise AppError(f"app {app_id!r} shares sessions: disable it instead") from None


def _set_disabled(services: Services, app_id: str, disabled_at: datetime | None) -> None:
    with services.store.write() as connection:
        _require(connection, app_id)
        connection.execute(update(App).where(App.app_id == app_id).values(disabled_at=disabled_at))
        action = Action.APP_ENABLED if disabled_at is None else Action.APP_DISABLED
        _note(connection, services, action, app_id)
    services.mosaic.faults.forget()


def _note(  # noqa: PLR0913 - the trail's own
    connection: Connection,
    services: Services,
    action: Action,
    app_id: str,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    operator_trail.record(
        connection, action, at=services.now(), app_id=app_id, before=before, after=after
    )


def _remembered(connection: Connection, app_id: str) -> dict[str, Any]:
    """Return what is set for the app and is no secret, as JSON holds it."""
    row = connection.execute(select(App.__table__).where(App.app_id == app_id)).one()
    address = _shown_address(row.notice_method, row.notice_address)
    notice = {"notice_method": row.notice_method, "notice_address": address}
    kept = {choice.name: getattr(row, choice.name) for choice in fields(AppChoices)}
    for name in _URLS:
        if kept[name] is not None:
            kept[name] = without_password(kept[name])
    expiry = {"notify_on_expiry": row.notify_on_expiry}
    client = {
        "client_id": row.client_id,
        "token_endpoint_auth_method": row.token_endpoint_auth_method,
    }
    return client | kept | notice | expiry


def _require(connection: Connection, app_id: str) -> None:
    # Locked: what is written down as before must be what the change finds. Users go on signing in:
    # a writer of a row that refers to the app does not wait for us.
    query = select(App.app_id).where(App.app_id == app_id).with_for_update(key_share=True)
    if connection.execute(query).first() is None:
        raise _no_app(app_id)


def _require_sources(connection: Connection, app_id: str, sources: Collection[str]) -> None:
    """Raise `AppError` unless tickets can come from *sources*: a slip would be found at a login."""
    if app_id in sources:
        raise AppError("an app needs no tickets from itself")
    known = connection.execute(select(App.app_id).where(App.app_id.in_(sources))).scalars()
    missing = sorted(set(sources).difference(known))
    if missing:
        raise _no_app(missing[0])


def _no_app(app_id: str) -> AppError:
    return AppError(f"there is no app {app_id!r} (mosaic-sessions apps list)")


def _add_key(connection: Connection, services: Services, app_id: str, key: ClientKey) -> None:
    row_id = new_id()
    connection.execute(
        insert(AppKey).values(
            id=row_id,
            app_id=app_id,
            kid=key.kid,
            sealed_secret=services.keyring.seal(key.secret, app_key_place(row_id)),
            created_at=services.now(),
        )
    )


def _row(services: Services, new: NewApp) -> dict[str, object]:
    return {
        "app_id": new.app_id,
        "client_id": new.client_id,
        **_credential_columns(services, new.app_id, new.credential),
        **_choice_columns(new),
        "notice_method": new.notice_method.value if new.notice_method else None,
        "notice_address": new.notice_address,
        "notify_on_expiry": new.notify_on_expiry,
        "created_at": services.now(),
    }


def _credential_columns(
    services: Services, app_id: str, credential: ClientCredential
) -> dict[str, object]:
    sealed = services.keyring.seal(credential.value, client_secret_place(app_id))
    return {
        "token_endpoint_auth_method": credential.method.value,
        "sealed_client_secret": sealed,
    }


def _choice_columns(choices: AppChoices) -> dict[str, object]:
    values = {c.name: getattr(choices, c.name) for c in fields(AppChoices)}
    return {n: list(v) if isinstance(v, tuple) else v for n, v in values.items()}


def _choices_in(app: Row[Any]) -> dict[str, Any]:
    """Return the `AppChoices` of a row, by name."""
    values = {choice.name: getattr(app, choice.name) for choice in fields(AppChoices)}
    return {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
