"""The tenant's users, as Mosaic publishes them."""

from __future__ import annotations

from simulator.idp.contract.fields import REQUIRED
from simulator.idp.contract.model import Caller, Published
from simulator.idp.endpoints import Endpoint
from simulator.idp.errors import Dialect
from simulator.idp.shapes import Anything, Flag, ListOf, Moment, Number, Object, Shape, Text

NAME = Object({"title": Text(), "first_name": Text(), "last_name": Text(), "middle_name": Text()})
NEW_USER: Shape = {
    "email": Text(),
    "phone_number": Text(),
    "username": Text(),
    "secondary_emails": ListOf(Text()),
    "secondary_phone_numbers": ListOf(Text()),
    "birthday": Text(),
    "address": Anything(),
    "name": NAME,
    "external_account_id": Text(),
    "external_user_id": Text(),
    "custom_app_data": Anything(),
    "custom_data": Anything(),
    "picture": Text(),
    "language": Text(),
    "credentials": Object({"password": REQUIRED, "force_replace": Flag()}),
    "delegated_access": Object(
        {"actor_id": REQUIRED, "permissions": ListOf(Text(), required=True)}
    ),
}
SHOWN_USER = Object(
    {
        "result": Object(
            {
                "user_id": REQUIRED,
                "status": Text(required=True, choices=frozenset({"Active", "Disabled", "Pending"})),
                "created_at": Number(required=True),
                "updated_at": Number(required=True),
                "username": Text(),
                "email": Object(
                    {"value": REQUIRED, "email_verified": Flag(), "verified_at": Moment()}
                ),
                "phone_number": Object(
                    {"value": REQUIRED, "phone_number_verified": Flag(), "verified_at": Moment()}
                ),
                "custom_data": Anything(),
            },
            required=True,
        )
    }
)

CALLS = [
    Published(
        Endpoint.USER_CREATE,
        "POST",
        ["/cis/v1/users"],
        Caller.CLIENT,
        NEW_USER,
        success=201,
        answer=SHOWN_USER,
        dialect=Dialect.BOTH,
        slugs={409: frozenset({"user_identifier_taken"})},
    ),
    Published(
        Endpoint.USER_BY_USERNAME,
        "GET",
        ["/cis/v1/users/username/{username}"],
        Caller.CLIENT,
        answer=SHOWN_USER,
    ),
]
