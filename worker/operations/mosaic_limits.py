"""What operators see of the traffic with Mosaic: budgets, pauses and breakers, of all apps."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import select

from models import App
from worker.mosaic.endpoints import endpoints_for
from worker.traffic import TrafficState
from worker.wiring import Services


@dataclass(frozen=True, slots=True)
class _Client:
    """An app as Mosaic counts it."""

    client_id: str
    base_url: str


def key_set_urls(services: Services) -> dict[str, str]:
    """Return where the key set of each app that is enabled is. Raises `StoreUnavailable`."""
    with services.store.read() as connection:
        apps = connection.execute(
            select(App.app_id, App.base_url, App.token_url, App.jwks_url, App.issuer).where(
                App.disabled_at.is_(None)
            )
        ).all()
    return {
        app.app_id: endpoints_for(
            services.settings,
            base_url=app.base_url,
            token_url=app.token_url,
            jwks_url=app.jwks_url,
            issuer=app.issuer,
        ).jwks_url
        for app in apps
    }


def traffic_state(services: Services) -> TrafficState:
    """Return what holds for the apps that are enabled.

    Raises `StoreUnavailable` and `redis.RedisError`.
    """
    with services.store.read() as connection:
        apps = connection.execute(
            select(App.client_id, App.base_url, App.issuer).where(App.disabled_at.is_(None))
        ).all()
    return services.traffic.snapshot(
        _Client(
            app.client_id,
            endpoints_for(services.settings, base_url=app.base_url, issuer=app.issuer).base_url,
        )
        for app in apps
    )
