"""Mosaic's endpoints and where they live."""

from __future__ import annotations

from starlette.routing import Route

from simulator.controls.conduct import Conduct
from simulator.idp import active, backend_sessions, oidc
from simulator.idp.endpoints import Endpoint
from simulator.idp.incoming import Handler
from simulator.idp.state import MosaicState

AUTH = "/cis/v1/auth"

ENDPOINTS: list[tuple[Endpoint, str, str, Handler]] = [
    (Endpoint.TOKEN, "POST", "/oidc/token", oidc.issue_client_token),
    (Endpoint.TOKEN, "POST", "/cis/oidc/token", oidc.issue_client_token),
    (Endpoint.JWKS, "GET", "/cis/oidc/jwks", oidc.publish_jwks),
    (
        Endpoint.SESSION_AUTHENTICATE,
        "POST",
        f"{AUTH}/session/authenticate",
        backend_sessions.authenticate_session,
    ),
    (
        Endpoint.SESSION_LOGOUT,
        "POST",
        f"{AUTH}/session/logout",
        backend_sessions.log_out_session,
    ),
    (Endpoint.TOKEN_REFRESH, "POST", f"{AUTH}/token/refresh", backend_sessions.refresh_token),
    (
        Endpoint.SESSIONS_LIST,
        "GET",
        AUTH + "/users/{user_id}/sessions",
        backend_sessions.list_sessions,
    ),
    (
        Endpoint.SESSIONS_DELETE,
        "DELETE",
        AUTH + "/users/{user_id}/sessions",
        backend_sessions.delete_sessions,
    ),
    (
        Endpoint.FRONTEND_SESSIONS_DELETE,
        "DELETE",
        "/cis/v1/sessions/{user_id}",
        backend_sessions.delete_frontend_sessions,
    ),
    (
        Endpoint.PASSWORD_AUTHENTICATE,
        "POST",
        f"{AUTH}/password/authenticate",
        active.authenticate_password,
    ),
    (Endpoint.OTP_SEND, "POST", f"{AUTH}/otp/send", active.send_otp),
    (Endpoint.OTP_AUTHENTICATE, "POST", f"{AUTH}/otp/authenticate", active.authenticate_otp),
    (Endpoint.LINK_SEND, "POST", f"{AUTH}/link/email/send", active.send_link),
    (
        Endpoint.LINK_AUTHENTICATE,
        "POST",
        f"{AUTH}/link/email/authenticate",
        active.authenticate_link,
    ),
]


def routes(state: MosaicState) -> list[Route]:
    """A route for each of Mosaic's endpoints."""
    return [
        Route(path, Conduct(state, endpoint, handler), methods=[method])
        for endpoint, method, path, handler in ENDPOINTS
    ]
