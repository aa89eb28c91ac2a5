"""The tokens we sign, as a receiver verifies them who knows the specification and not us."""

from __future__ import annotations

import pytest
from cryptography.exceptions import InvalidSignature

from tests.integration.backchannel.notices_rig import (
    ISSUER,
    NOW,
    Clock,
    make_settings,
    rsa_pem,
    sending,
    verify_logout_token,
)
from worker.backchannel.logout_tokens import LogoutTokens
from worker.settings.validators import parse_signing_keys

TWO_KEYS = f"{rsa_pem('second')}\n{rsa_pem('first')}"


def tokens(pem: str | None = None, clock: Clock | None = None) -> LogoutTokens:
    keys = parse_signing_keys(pem or rsa_pem("first"))
    return LogoutTokens(ISSUER, keys, (clock or Clock()).now)


def signed(maker: LogoutTokens, session_ref: str | None = "ref-1") -> str:
    return maker.sign(audience="shop", user_id="ada", session_ref=session_ref, notice_id="notice-1")


def test_a_receiver_by_the_book_accepts_the_token() -> None:
    maker = tokens()

    claims = verify_logout_token(
        signed(maker), {"keys": maker.public_keys()}, issuer=ISSUER, audience="shop", now=NOW
    )

    assert claims == {
        "iss": ISSUER,
        "aud": "shop",
        "iat": int(NOW.timestamp()),
        "exp": int(NOW.timestamp()) + 120,
        "jti": "notice-1",
        "events": {"http://schemas.openid.net/event/backchannel-logout": {}},
        "sub": "ada",
        "sid": "ref-1",
    }


def test_without_a_session_reference_there_is_no_sid() -> None:
    maker = tokens()

    claims = verify_logout_token(
        signed(maker, None), {"keys": maker.public_keys()}, issuer=ISSUER, audience="shop", now=NOW
    )

    assert "sid" not in claims
    assert claims["sub"] == "ada"


def test_a_second_attempt_after_the_first_token_expired_is_accepted_under_the_same_id() -> None:
    clock = Clock()
    maker = tokens(clock=clock)
    first = signed(maker)
    clock.advance(600)
    second = signed(maker)

    def verify(token: str) -> str:
        jwks = {"keys": maker.public_keys()}
        claims = verify_logout_token(token, jwks, issuer=ISSUER, audience="shop", now=clock.moment)
        return str(claims["jti"])

    assert verify(second) == "notice-1"
    with pytest.raises(AssertionError):
        verify(first)


def test_the_first_key_signs_and_every_key_is_published() -> None:
    maker = tokens(TWO_KEYS)
    published = maker.public_keys()
    before = tokens(rsa_pem("first"))

    jwks = {"keys": published}
    for token in (signed(maker), signed(before)):
        verify_logout_token(token, jwks, issuer=ISSUER, audience="shop", now=NOW)

    assert [key["kid"] for key in published] == [
        tokens(rsa_pem("second")).public_keys()[0]["kid"],
        before.public_keys()[0]["kid"],
    ]
    with pytest.raises(ValueError, match="not enough values"):  # signed by the second, not by it
        verify_logout_token(
            signed(maker), {"keys": published[1:]}, issuer=ISSUER, audience="shop", now=NOW
        )


def test_a_published_key_holds_nothing_private() -> None:
    for key in tokens(TWO_KEYS).public_keys():
        assert key.keys() == {"kty", "n", "e", "use", "alg", "kid"}


def test_a_token_that_was_changed_is_noticed() -> None:
    """A receiver that accepts anything would prove nothing above."""
    maker = tokens()
    header, claims, signature = signed(maker).split(".")
    other = signed(maker, "ref-2").split(".")[1]
    jwks = {"keys": maker.public_keys()}

    for token in (f"{header}.{other}.{signature}", f"{header}.{claims}.{'A' * len(signature)}"):
        with pytest.raises(InvalidSignature):
            verify_logout_token(token, jwks, issuer=ISSUER, audience="shop", now=NOW)


def test_the_sender_publishes_its_keys_and_none_without_settings() -> None:
    with sending(notice_signing_keys=TWO_KEYS) as sender:
        assert sender.public_keys() == {"keys": tokens(TWO_KEYS).public_keys()}
    with sending(notice_signing_keys=None) as sender:
        assert sender.public_keys() == {"keys": []}


def test_the_settings_do_not_show_the_keys() -> None:
    assert "PRIVATE" not in repr(make_settings())
