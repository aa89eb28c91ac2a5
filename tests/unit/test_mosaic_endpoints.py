from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import pytest

from worker.errors import ConfigurationError
from worker.mosaic import ClientSecret, MosaicApp, Tokens, endpoints_for
from worker.settings.model import Settings

KEY = base64.b64encode(b"k" * 32).decode()


def settings(**changes: Any) -> Settings:
    return Settings.model_validate({"encryption_keys": f"k1:{KEY}", "lookup_key": KEY, **changes})


@pytest.mark.parametrize(
    ("region", "host", "issuer"),
    [
        ("us", "https://api.transmitsecurity.io", "https://userid.security"),
        ("eu", "https://api.eu.transmitsecurity.io", "https://eu.userid.security"),
        ("ca", "https://api.ca.transmitsecurity.io", "https://ca.userid.security"),
        ("au", "https://api.au.transmitsecurity.io", "https://au.userid.security"),
    ],
)
def test_a_region_gives_all_four_addresses(region: str, host: str, issuer: str) -> None:
    found = endpoints_for(settings(mosaic_region=region))

    assert found.base_url == host
    assert found.token_url == f"{host}/oidc/token"
    assert found.jwks_url == f"{host}/cis/oidc/jwks"
    assert found.issuer == issuer


@pytest.mark.parametrize("region", ["jp", "sandbox"])
def test_a_region_without_a_documented_issuer_asks_for_it(region: str) -> None:
    with pytest.raises(ConfigurationError, match="MOSAIC_SESSIONS_MOSAIC_ISSUER must be set"):
        endpoints_for(settings(mosaic_region=region))

    assert endpoints_for(settings(mosaic_region=region), issuer="https://i").issuer == "https://i"


@pytest.mark.parametrize("name", ["base_url", "token_url", "jwks_url", "issuer"])
def test_an_override_changes_no_other_address(name: str) -> None:
    usual = endpoints_for(settings())
    by_app = endpoints_for(settings(), **{name: "https://other.example"})
    by_setting = endpoints_for(settings(**{f"mosaic_{name}": "https://other.example"}))

    assert by_app == by_setting
    changed = {n for n in usual.__slots__ if getattr(by_app, n) != getattr(usual, n)}
    assert changed == {name}


def test_the_apps_override_wins_over_the_setting() -> None:
    found = endpoints_for(settings(mosaic_issuer="https://setting"), issuer="https://app")

    assert found.issuer == "https://app"


def test_no_secret_is_seen_in_a_repr() -> None:
    app = MosaicApp(
        app_id="shop",
        client_id="shop",
        credential=ClientSecret("s3cr3t"),
        base_url="",
        token_url="",
        jwks_url="",
        issuer="",
        session_lifetime=timedelta(1),
    )
    tokens = Tokens(
        access_token="s3cr3t",
        token_type="Bearer",
        expires_in=1,
        session_id="s3cr3t",
        id_token="s3cr3t",
        refresh_token="s3cr3t",
    )

    assert "s3cr3t" not in repr((app, tokens))
