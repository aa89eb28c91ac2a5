"""Where Mosaic is, by region.

Source: "Hosts" in the protocol sheet. The four values are independent: a custom domain replaces
the host and keeps the issuer, an app with its own keys has its own issuer and JWKS. Deriving one
from another would verify tokens against a name Mosaic never uses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from worker.errors import ConfigurationError
from worker.settings.model import Region, Settings

_HOSTS: Final[dict[Region, str]] = {
    "us": "api.transmitsecurity.io",
    "eu": "api.eu.transmitsecurity.io",
    "ca": "api.ca.transmitsecurity.io",
    "au": "api.au.transmitsecurity.io",
    "jp": "api.gasne1-ts01.transmitsecurity.io",
    "sandbox": "api.sbx.transmitsecurity.io",
}
_ISSUERS: Final[dict[Region, str]] = {  # not documented for jp and sandbox
    "us": "https://userid.security",
    "eu": "https://eu.userid.security",
    "ca": "https://ca.userid.security",
    "au": "https://au.userid.security",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """The four addresses an app may override one by one."""

    base_url: str
    token_url: str
    jwks_url: str
    issuer: str


def endpoints_for(
    settings: Settings,
    *,
    base_url: str | None = None,
    token_url: str | None = None,
    jwks_url: str | None = None,
    issuer: str | None = None,
) -> Endpoints:
    """Return each address from the app's override, else the setting, else the region.

    Raises `ConfigurationError` where no issuer is set and the region's is not documented.
    """
    region = settings.mosaic_region
    host = f"https://{_HOSTS[region]}"
    found_issuer = issuer or settings.mosaic_issuer or _ISSUERS.get(region)
    if found_issuer is None:
        raise ConfigurationError(
            f"MOSAIC_SESSIONS_MOSAIC_ISSUER must be set: the issuer of region {region!r} "
            "is not documented; read it from the `iss` of one of your ID tokens"
        )
    return Endpoints(
        base_url=(base_url or settings.mosaic_base_url or host).rstrip("/"),
        token_url=token_url or settings.mosaic_token_url or f"{host}/oidc/token",
        jwks_url=jwks_url or settings.mosaic_jwks_url or f"{host}/cis/oidc/jwks",
        issuer=found_issuer,
    )
