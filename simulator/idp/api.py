"""Mosaic's endpoints, each with the handler that answers it."""

from __future__ import annotations

from starlette.routing import Route

from simulator.controls.conduct import Conduct
from simulator.idp import backend_sessions, oidc, people
from simulator.idp.contract import PUBLISHED
from simulator.idp.endpoints import Endpoint
from simulator.idp.incoming import Handler
from simulator.idp.methods import (
    authenticator_apps,
    biometrics,
    cross_device,
    links,
    passcodes,
    passkeys,
    passwords,
    social,
)
from simulator.idp.state import MosaicState

HANDLERS: dict[Endpoint, Handler] = {
    Endpoint.TOKEN: oidc.issue_client_token,
    Endpoint.JWKS: oidc.publish_jwks,
    Endpoint.SESSION_AUTHENTICATE: backend_sessions.authenticate_session,
    Endpoint.SESSION_LOGOUT: backend_sessions.log_out_session,
    Endpoint.TOKEN_REFRESH: backend_sessions.refresh_token,
    Endpoint.SESSIONS_LIST: backend_sessions.list_sessions,
    Endpoint.SESSIONS_DELETE: backend_sessions.delete_sessions,
    Endpoint.FRONTEND_SESSIONS_DELETE: backend_sessions.delete_frontend_sessions,
    Endpoint.PASSWORD_AUTHENTICATE: passwords.authenticate,
    Endpoint.OTP_SEND: passcodes.send,
    Endpoint.OTP_AUTHENTICATE: passcodes.authenticate,
    Endpoint.LINK_SEND: links.send,
    Endpoint.LINK_AUTHENTICATE: links.authenticate,
    Endpoint.TOTP_AUTHENTICATE: authenticator_apps.authenticate,
    Endpoint.TOTP_TRANSACTION_START: authenticator_apps.start_transaction,
    Endpoint.TOTP_TRANSACTION_AUTHENTICATE: authenticator_apps.authenticate_transaction,
    Endpoint.TOTP_REGISTER: authenticator_apps.register,
    Endpoint.TOTP_REVOKE_MINE: authenticator_apps.revoke_mine,
    Endpoint.TOTP_REVOKE: authenticator_apps.revoke,
    Endpoint.TOTP_UNLOCK: authenticator_apps.unlock,
    Endpoint.SOCIAL_START: social.start,
    Endpoint.SOCIAL_VERIFY: social.verify,
    Endpoint.SOCIAL_AUTHENTICATE: social.authenticate,
    Endpoint.WEBAUTHN_START: passkeys.start,
    Endpoint.WEBAUTHN_AUTHENTICATE: passkeys.authenticate,
    Endpoint.CROSS_DEVICE_INIT: cross_device.begin,
    Endpoint.CROSS_DEVICE_ATTACH: cross_device.attach,
    Endpoint.CROSS_DEVICE_START: cross_device.start,
    Endpoint.CROSS_DEVICE_STATUS: cross_device.show_status,
    Endpoint.CROSS_DEVICE_ABORT: cross_device.abort,
    Endpoint.BIOMETRICS_START: biometrics.start,
    Endpoint.BIOMETRICS_AUTHENTICATE: biometrics.authenticate,
    Endpoint.BIOMETRICS_REGISTER: biometrics.register,
    Endpoint.BIOMETRICS_DELETE: biometrics.delete,
    Endpoint.USER_CREATE: people.create,
    Endpoint.USER_BY_USERNAME: people.show_by_username,
}


def routes(state: MosaicState) -> list[Route]:
    """A route for each of Mosaic's endpoints, the ones that fix most of their path first."""
    found = [
        Route(path, Conduct(state, published, HANDLERS[endpoint]), methods=[published.method])
        for endpoint, published in PUBLISHED.items()
        for path in published.paths
    ]
    return sorted(found, key=lambda route: route.path.count("{"))
