"""Two apps of one worker, which is the real one or the testing kit's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

import pytest

from sandbox.stack import Stack
from session_client import AppKey, Authenticated, Password, SessionClient
from session_client.testing import SessionWorker, session_worker
from simulator.controls.devices import PasskeyDevice, totp_code

__all__ = ["session_worker"]

PASSWORD = "a password"
ARRIVAL = "https://forum.example/transfer"


class Passkey(Protocol):
    """A passkey, and the browser that answers with it."""

    def answer(self, options: Mapping[str, Any], /) -> str: ...


@dataclass
class World:
    """Two apps of one worker, real or not."""

    forum: SessionClient
    shop: SessionClient
    add_user: Callable[[str], None]
    code_for: Callable[[str], str]
    totp_for: Callable[..., str]
    add_passkey: Callable[[str], Passkey]

    def login(self, user_id: str, replaces: str | None = None) -> Authenticated:
        answer = self.forum.authenticate(Password(user_id, PASSWORD), replaces=replaces, timeout=30)
        assert isinstance(answer, Authenticated)
        return answer


@pytest.fixture(scope="module")
def real() -> Iterator[World]:
    numbers, methods = count(), "password,otp,otp_direct,link_direct,totp,totp_transaction,webauthn"
    granted = ("--methods", methods, "--allow", "offline")
    takes_tickets = ("--transfer-url", ARRIVAL, "--tickets-from", "shop")
    with Stack() as stack:
        stack.migrate()
        keys = {
            "shop": stack.add_app("shop", *granted),
            "forum": stack.add_app("forum", *granted, *takes_tickets),
        }

        def totp_for(user: str, challenge: str = "") -> str:
            secret = stack.mosaic.authenticator_apps.enrol(user)["secret"]
            return totp_code(secret, stack.mosaic.clock.now(), challenge)

        def add_passkey(user: str) -> PasskeyDevice:
            device = PasskeyDevice()
            stack.mosaic.passkeys.register(user, device.credential_id, device.public_key)
            return device

        stack.worker()
        forum, shop = (
            SessionClient(broker_url=stack.broker_url, app_id=app, app_key=keys[app])
            for app in ("forum", "shop")
        )
        with forum, shop:
            yield World(
                forum,
                shop,
                lambda user: stack.mosaic.add_user(
                    user,
                    password=PASSWORD,
                    phone=f"+44163296{next(numbers):04}",
                    email=f"{user}@example.com",
                ),
                lambda user: stack.mosaic.outbox.sent(user)[-1].code,
                totp_for,
                add_passkey,
            )


@pytest.fixture
def pretended(session_worker: SessionWorker) -> World:
    forum, shop = (
        SessionClient(broker_url="redis://nobody", app_id=app, app_key=AppKey.generate())
        for app in ("forum", "shop")
    )
    # As the apps of the real one may.
    session_worker.allow("silent_by_user")
    session_worker.allow("offline")
    session_worker.allow_tickets("shop", "forum", ARRIVAL)
    return World(
        forum,
        shop,
        lambda user: session_worker.add_user(user, PASSWORD, email=f"{user}@example.com"),
        session_worker.code_for,
        session_worker.totp_for,
        session_worker.add_passkey,
    )


@pytest.fixture(params=["real", "pretended"])
def world(request: pytest.FixtureRequest) -> World:
    found: World = request.getfixturevalue(request.param)
    return found
