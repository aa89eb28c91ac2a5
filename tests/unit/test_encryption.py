"""What is sealed opens with its key, in its row, unaltered; and in no other way."""

from __future__ import annotations

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.errors import ConfigurationError
from worker.storage.encryption import Hashed, KeyRing, SealedValueUnreadable, kid_of

OLD, NEW, LOOKUP = b"o" * 32, b"n" * 32, b"l" * 32
PLACE = "idp_sessions:1:session_id"
SECRET = "sid-canary-51c2"


def ring(lookup_key: bytes = LOOKUP, **keys: bytes) -> KeyRing:
    return KeyRing(keys or {"k1": OLD}, lookup_key)


def test_what_is_sealed_opens_in_its_row() -> None:
    assert ring().open(ring().seal(SECRET, PLACE), PLACE) == SECRET


@given(st.binary(max_size=200), st.text(max_size=40))
def test_any_bytes_come_back_as_they_were(data: bytes, place: str) -> None:
    assert ring().open_bytes(ring().seal(data, place), place) == data


def test_sealing_hides_the_text() -> None:
    assert SECRET.encode() not in ring().seal(SECRET, PLACE)


def test_sealing_twice_gives_two_values() -> None:
    assert ring().seal(SECRET, PLACE) != ring().seal(SECRET, PLACE)


def test_a_value_copied_to_another_row_does_not_open() -> None:
    sealed = ring().seal(SECRET, PLACE)

    with pytest.raises(SealedValueUnreadable, match="another row, or altered"):
        ring().open(sealed, "idp_sessions:2:session_id")


def test_no_byte_may_be_altered() -> None:
    sealed = ring().seal(SECRET, PLACE)

    for position in range(len(sealed)):
        altered = bytearray(sealed)
        altered[position] ^= 1
        with pytest.raises(SealedValueUnreadable):
            ring().open(bytes(altered), PLACE)


def test_no_byte_may_be_missing() -> None:
    sealed = ring().seal(SECRET, PLACE)

    for length in range(len(sealed)):
        with pytest.raises(SealedValueUnreadable):
            ring().open(sealed[:length], PLACE)


def test_a_key_that_left_the_ring_is_named() -> None:
    sealed = ring(old=OLD).seal(SECRET, PLACE)

    with pytest.raises(SealedValueUnreadable, match="key 'old' is not in the ring"):
        ring(new=NEW).open(sealed, PLACE)


def test_another_key_under_the_same_name_does_not_open() -> None:
    sealed = ring(k1=OLD).seal(SECRET, PLACE)

    with pytest.raises(SealedValueUnreadable, match=r"key 'k1' does not open it: .* another key"):
        ring(k1=NEW).open(sealed, PLACE)


def test_after_a_rotation_the_new_key_seals_and_the_old_one_still_opens() -> None:
    before, after = ring(old=OLD), ring(new=NEW, old=OLD)
    sealed_before = before.seal(SECRET, PLACE)

    sealed_after = after.seal(SECRET, PLACE)

    assert (kid_of(sealed_before), kid_of(sealed_after)) == ("old", "new")
    assert after.sealing_kid == "new"
    assert after.open(sealed_before, PLACE) == after.open(sealed_after, PLACE) == SECRET
    with pytest.raises(SealedValueUnreadable):
        before.open(sealed_after, PLACE)


@pytest.mark.parametrize("garbage", [b"", b"\x01", b"\x02\x02k1", b"plain text", b"\x00" * 64])
def test_garbage_has_no_key(garbage: bytes) -> None:
    with pytest.raises(SealedValueUnreadable, match="not a sealed value"):
        kid_of(garbage)


@given(st.binary(max_size=80))
def test_garbage_never_opens_and_never_crashes(garbage: bytes) -> None:
    for head in (b"", b"\x01", b"\x01\x02k1"):
        with pytest.raises(SealedValueUnreadable):
            ring().open(head + garbage, PLACE)


def test_no_message_tells_what_was_sealed_or_the_key() -> None:
    sealed = ring().seal(SECRET, PLACE)

    with pytest.raises(SealedValueUnreadable) as caught:
        ring().open(sealed, "elsewhere")

    assert SECRET not in str(caught.value)
    assert "o" * 32 not in str(caught.value)


def test_the_ring_shows_the_names_of_its_keys_alone() -> None:
    assert repr(ring(new=NEW, old=OLD)) == "<KeyRing ['new', 'old']>"


def test_an_empty_ring_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        KeyRing({}, LOOKUP)


def test_the_lookup_hash_is_the_keyed_hash_and_nothing_else() -> None:
    found = ring().lookup_hash(SECRET)

    assert found == hmac.digest(LOOKUP, SECRET.encode(), hashlib.sha256)
    assert len(found) == 32


def test_the_lookup_hash_survives_a_rotation_of_the_other_keys() -> None:
    assert ring(old=OLD).lookup_hash(SECRET) == ring(new=NEW, old=OLD).lookup_hash(SECRET)


def test_the_lookup_hash_depends_on_its_key_and_on_the_id() -> None:
    hashes = {
        ring().lookup_hash(SECRET),
        ring(lookup_key=b"m" * 32).lookup_hash(SECRET),
        ring().lookup_hash(SECRET + "x"),
        hashlib.sha256(SECRET.encode()).digest(),
    }

    assert len(hashes) == 4


LABELS = {
    Hashed.BROWSER_TOKEN: b"browser-token/1",
    Hashed.TICKET: b"ticket/1",
    Hashed.IDENTIFIER: b"identifier/1",
    Hashed.REFRESH_TOKEN: b"refresh/1",
    Hashed.REQUEST: b"request/1",
}


def test_every_kind_of_value_is_hashed_under_a_key_derived_for_it_alone() -> None:
    """HKDF-SHA-256 of RFC 5869, by hand: stored hashes must be found by every later release."""
    extracted = hmac.digest(bytes(32), LOOKUP, hashlib.sha256)
    assert set(LABELS) == set(Hashed)
    for kind, label in LABELS.items():
        key = hmac.digest(extracted, label + b"\x01", hashlib.sha256)
        expected = hmac.digest(key, SECRET.encode(), hashlib.sha256)

        assert ring().keyed_hash(kind, SECRET) == expected


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_a_value_of_one_kind_is_never_found_as_one_of_another(text: str) -> None:
    ours = [ring().keyed_hash(kind, text) for kind in Hashed]

    assert len({*ours, ring().lookup_hash(text)}) == len(ours) + 1


def test_a_keyed_hash_survives_a_rotation_and_differs_from_another_installations() -> None:
    for kind in Hashed:
        found = ring(old=OLD).keyed_hash(kind, SECRET)

        assert found == ring(new=NEW, old=OLD).keyed_hash(kind, SECRET)
        assert found != ring(lookup_key=b"m" * 32).keyed_hash(kind, SECRET)
