"""Clients that prove themselves to Mosaic by a private key: `private_key_jwt`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from joserfc.jwk import ECKey, RSAKey

from tests.integration.mosaic.mosaic_rig import Rig, authenticate, running_rig
from worker.errors import ClientRefused
from worker.mosaic import ClientPrivateKey, MosaicApp
from worker.mosaic.client_tokens import REFUSAL_SECONDS
from worker.mosaic.deadline import Deadline

KEYS: dict[str, RSAKey | ECKey] = {
    "RS256": RSAKey.generate_key(2048, {"alg": "RS256"}),
    "PS256": RSAKey.generate_key(2048, {"alg": "PS256", "kid": "2026"}),
    "ES256": ECKey.generate_key("P-256", {"alg": "ES256"}),
}


@pytest.fixture
def rig() -> Iterator[Rig]:
    with running_rig() as rig:
        yield rig


def as_read(key: RSAKey | ECKey) -> ClientPrivateKey:
    return ClientPrivateKey.read(json.dumps(key.as_dict(private=True)))


def with_key(rig: Rig, key: RSAKey | ECKey) -> MosaicApp:
    """Have Mosaic know the public part of *key*, and the shop sign with it."""
    rig.state.add_client("shop", public_jwk=key.as_dict(private=False))
    return replace(rig.app, credential=as_read(key))


@pytest.mark.parametrize("algorithm", KEYS)
def test_a_signature_gets_the_client_token(rig: Rig, algorithm: str) -> None:
    app = with_key(rig, KEYS[algorithm])

    _, identity = authenticate(rig.gateway(), app, rig.login().session_id)

    assert identity.user_id == "ada"
    assert rig.count("token") == 1


def test_every_token_is_asked_for_by_a_signature_of_its_own(rig: Rig) -> None:
    app, tokens = with_key(rig, KEYS["ES256"]), rig.gateway()._client_tokens

    for _ in range(3):  # Mosaic takes each once
        tokens.fetch(app, Deadline.after(5))

    assert rig.count("token") == 3


@pytest.mark.parametrize("seconds", [-55, 55])
def test_clocks_that_are_a_minute_apart_do_not_hinder_it(rig: Rig, seconds: int) -> None:
    app, session = with_key(rig, KEYS["ES256"]), rig.login().session_id
    gateway = rig.gateway()
    now = rig.now()
    gateway._client_tokens._now = lambda: now
    rig.advance(seconds)

    authenticate(gateway, app, session)


@pytest.mark.parametrize("answer", ["messages", "oauth"])
def test_another_key_than_mosaic_knows_is_refused_and_not_tried_again_at_once(
    rig: Rig, answer: str
) -> None:
    rig.state.policy.change(wrong_client_answer=answer)
    right = with_key(rig, KEYS["RS256"])
    wrong = replace(right, credential=as_read(KEYS["PS256"]))
    session, gateway = rig.login().session_id, rig.gateway()

    for _ in range(5):
        with pytest.raises(ClientRefused):
            authenticate(gateway, wrong, session)
    assert rig.count("token") == 1

    rig.advance(REFUSAL_SECONDS + 1)
    authenticate(gateway, right, session)


def test_a_token_that_the_secret_bought_is_not_taken_for_the_keys(rig: Rig) -> None:
    session = rig.login().session_id
    authenticate(rig.gateway(), rig.app, session)
    wrong = replace(rig.app, credential=as_read(KEYS["RS256"]))

    with pytest.raises(ClientRefused):
        authenticate(rig.gateway(), wrong, session)
