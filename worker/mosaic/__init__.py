"""All that asks Mosaic: HTTP, client tokens and token verification inside; our errors outside."""

from __future__ import annotations

from worker.mosaic.client_authentication import ClientCredential, ClientPrivateKey, ClientSecret
from worker.mosaic.endpoints import Endpoints, endpoints_for
from worker.mosaic.gateway import MosaicGateway, build_gateway
from worker.mosaic.login_calls import CALLS, LoginFacts, Shown
from worker.mosaic.types import (
    Identity,
    ListedSession,
    MosaicApp,
    SilentAuthCall,
    SilentAuthOptions,
    Tokens,
)

__all__ = [
    "CALLS",
    "ClientCredential",
    "ClientPrivateKey",
    "ClientSecret",
    "Endpoints",
    "Identity",
    "ListedSession",
    "LoginFacts",
    "MosaicApp",
    "MosaicGateway",
    "Shown",
    "SilentAuthCall",
    "SilentAuthOptions",
    "Tokens",
    "build_gateway",
    "endpoints_for",
]
