"""Client tokens, keys and sessions, as Mosaic publishes them."""

from __future__ import annotations

from simulator.idp.contract.fields import REFRESHED, REQUIRED, TOKENS, WISHES
from simulator.idp.contract.model import Caller, Published
from simulator.idp.endpoints import Endpoint
from simulator.idp.shapes import Anything, ListOf, Moment, Number, Object, Shape, Text

AUTH = "/cis/v1/auth"

CLIENT_TOKEN: Shape = {
    "grant_type": REQUIRED,
    "client_id": Text(),
    "client_secret": Text(),
    "client_assertion": Text(),
    "client_assertion_type": Text(),
    "resource": Text(),
}
GIVEN_CLIENT_TOKEN = Object(
    {
        "access_token": REQUIRED,
        "expires_in": Number(required=True),
        "token_type": REQUIRED,
        "scope": Text(),
    }
)
LISTED_SESSION = Object(
    {
        "session_id": REQUIRED,
        "start_time": Moment(required=True),
        "expiration_time": Moment(required=True),
    }
)

CALLS = [
    Published(
        Endpoint.TOKEN,
        "POST",
        ["/oidc/token", "/cis/oidc/token"],
        Caller.ANYONE,
        CLIENT_TOKEN,
        is_form=True,
        answer=GIVEN_CLIENT_TOKEN,
    ),
    Published(
        Endpoint.JWKS,
        "GET",
        ["/cis/oidc/jwks"],
        Caller.ANYONE,
        answer=Object({"keys": ListOf(Anything(), required=True)}),
    ),
    Published(
        Endpoint.SESSION_AUTHENTICATE,
        "POST",
        [f"{AUTH}/session/authenticate"],
        Caller.CLIENT,
        {"session_id": REQUIRED, **WISHES},
        answer=TOKENS,
    ),
    Published(
        Endpoint.SESSION_LOGOUT,
        "POST",
        [f"{AUTH}/session/logout"],
        Caller.CLIENT,
        {"session_id": REQUIRED},
        success=204,
    ),
    Published(
        Endpoint.TOKEN_REFRESH,
        "POST",
        [f"{AUTH}/token/refresh"],
        Caller.CLIENT,
        {"refresh_token": REQUIRED},
        answer=Object(REFRESHED),
    ),
    Published(
        Endpoint.SESSIONS_LIST,
        "GET",
        [f"{AUTH}/users/{{user_id}}/sessions"],
        Caller.CLIENT,
        answer=ListOf(LISTED_SESSION),
    ),
    Published(
        Endpoint.SESSIONS_DELETE,
        "DELETE",
        [f"{AUTH}/users/{{user_id}}/sessions"],
        Caller.CLIENT,
        success=204,
    ),
    Published(
        Endpoint.FRONTEND_SESSIONS_DELETE,
        "DELETE",
        ["/cis/v1/sessions/{user_id}"],
        Caller.CLIENT,
        answer=Object({"result": Object({"deleted_count": Number(required=True)}, required=True)}),
    ),
]
