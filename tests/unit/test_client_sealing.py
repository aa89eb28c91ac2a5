from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import OctKey

from session_client import AppKey, SealBroken, sealing
from session_client.contract import (
    MAX_ANSWER_BYTES,
    MAX_ENVELOPE_BYTES,
    MAX_NESTING,
    MAX_REGISTER_BYTES,
)
from session_client.sealing import Kind

KEY = AppKey("k1", bytes(range(32)))
HEADER = {"alg": "dir", "enc": "A256GCM", "kid": "k1", "typ": "session-request"}
SEALED = sealing.seal(KEY, Kind.REQUEST, {"user_id": "ada"})
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def find(kid: str) -> AppKey | None:
    return KEY if kid == KEY.kid else None


def opened(sealed: str, kind: Kind = Kind.REQUEST) -> dict[str, Any]:
    return sealing.unseal(sealed, kind, find)


def made_by_another_hand(
    header: dict[str, Any], plaintext: bytes = b'{"user_id":"ada"}', secret: bytes = KEY.secret
) -> str:
    names = ["dir", "A256KW", "A256GCMKW", "A256GCM", "A128CBC-HS256", "DEF"]
    registry = jwe.JWERegistry(strict_check_header=False, algorithms=names)
    return jwe.encrypt_compact(header, plaintext, OctKey.import_key(secret), registry=registry)


def nested(depth: int) -> bytes:
    return b'{"a":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_what_is_sealed_opens_as_it_was(content: dict[str, Any]) -> None:
    assert opened(sealing.seal(KEY, Kind.REQUEST, content)) == content


def test_the_other_hand_writes_what_we_open() -> None:
    assert opened(made_by_another_hand(HEADER)) == {"user_id": "ada"}


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(Kind), st.dictionaries(st.text(), JSON_VALUES, max_size=5))
def test_the_other_hand_opens_what_we_write(kind: Kind, content: dict[str, Any]) -> None:
    sealed = sealing.seal(KEY, kind, content)

    read = jwe.decrypt_compact(sealed, OctKey.import_key(KEY.secret), algorithms=["dir", "A256GCM"])

    assert read.headers() == HEADER | {"typ": kind.value}
    assert json.loads(read.plaintext or b"") == content


def test_nothing_of_the_content_can_be_read_without_the_key() -> None:
    readable = b"".join(base64.urlsafe_b64decode(part + "===") for part in SEALED.split("."))

    assert b"ada" not in readable


def test_the_same_content_is_never_sealed_to_the_same_text() -> None:
    assert sealing.seal(KEY, Kind.REQUEST, {}) != sealing.seal(KEY, Kind.REQUEST, {})


def test_a_changed_character_breaks_the_seal() -> None:
    for place in range(len(SEALED)):
        letter = "B" if SEALED[place] == "A" else "A"
        changed = SEALED[:place] + letter + SEALED[place + 1 :]

        try:
            content = opened(changed)
        except SealBroken:
            continue
        # The last letter of a base64 part has bits that mean nothing.
        assert content == {"user_id": "ada"}, place
        assert SEALED[place + 1 : place + 2] in {".", ""}, place


@pytest.mark.parametrize(
    "text",
    [
        "",
        ".",
        "....",
        "no token",
        SEALED[:-1],
        SEALED + ".",
        SEALED.rpartition(".")[0],
        "é" + SEALED,
        "\x00",
        "e30....",
        "W10....",
        pytest.param(SEALED.partition(".")[2], id="headless"),  # random, and so no name
        json.dumps({"verdict": "ok"}),
    ],
)
def test_what_is_no_sealed_text_is_refused(text: str) -> None:
    with pytest.raises(SealBroken):
        opened(text)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def with_parts(**changed: str) -> str:
    """Return a sealed text in which some parts stand otherwise."""
    names = ("head", "key", "nonce", "ciphertext", "tag")
    return ".".join({**dict(zip(names, SEALED.split("."), strict=True)), **changed}.values())


@pytest.mark.parametrize("junk", ["+", "/", "=", "==", "\n", " ", "!", "é", "A"])
@pytest.mark.parametrize("place", ["nonce", "ciphertext", "tag"])
def test_a_part_with_anything_added_is_refused(place: str, junk: str) -> None:
    parts = dict(zip(("head", "key", "nonce", "ciphertext", "tag"), SEALED.split("."), strict=True))

    for changed in (parts[place] + junk, junk + parts[place]):
        with pytest.raises(SealBroken):
            opened(with_parts(**{place: changed}))


def test_a_key_of_its_own_is_refused() -> None:
    with pytest.raises(SealBroken, match="does not open"):
        opened(with_parts(key="AAAA"))


@pytest.mark.parametrize("moved", [-15, -1, 1, 2])
def test_bytes_moved_between_ciphertext_and_tag_are_refused(moved: int) -> None:
    """Together they are the same to the cipher; a tag of one byte would soon be guessed."""
    whole = b"".join(base64.urlsafe_b64decode(part + "===") for part in SEALED.split(".")[-2:])
    cut = len(whole) - 16 + moved

    with pytest.raises(SealBroken, match="does not open"):
        opened(with_parts(ciphertext=encoded(whole[:cut]), tag=encoded(whole[cut:])))


@pytest.mark.parametrize("length", [0, 8, 11, 13, 16])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    nonce = bytes(length)
    sealed = AESGCM(KEY.secret).encrypt(
        nonce or bytes(12), b"{}", SEALED.partition(".")[0].encode()
    )

    with pytest.raises(SealBroken, match="does not open"):
        opened(
            with_parts(
                nonce=encoded(nonce), ciphertext=encoded(sealed[:-16]), tag=encoded(sealed[-16:])
            )
        )


def test_another_key_of_the_same_name_does_not_open_it() -> None:
    other = AppKey("k1", bytes(32))

    with pytest.raises(SealBroken, match="does not open"):
        sealing.unseal(SEALED, Kind.REQUEST, lambda _: other)


def test_an_unknown_kid_is_refused() -> None:
    with pytest.raises(SealBroken, match="unknown key"):
        opened(sealing.seal(AppKey("k2", KEY.secret), Kind.REQUEST, {}))


@pytest.mark.parametrize("kind", [Kind.ANSWER, Kind.NOTICE])
def test_a_request_is_not_taken_for_anything_else(kind: Kind) -> None:
    with pytest.raises(SealBroken, match="another kind"):
        opened(SEALED, kind)


@pytest.mark.parametrize(
    "header",
    [
        HEADER | {"alg": "A256KW"},
        HEADER | {"alg": "A256GCMKW"},
        HEADER | {"enc": "A128CBC-HS256"},
        HEADER | {"zip": "DEF"},
        HEADER | {"cty": "json"},
        HEADER | {"crit": ["exp"], "exp": 1},
        {name: value for name, value in HEADER.items() if name != "kid"},
        {name: value for name, value in HEADER.items() if name != "typ"},
        HEADER | {"kid": ["k1"]},
    ],
    ids=json.dumps,
)
def test_a_header_that_is_not_exactly_ours_is_refused(header: dict[str, Any]) -> None:
    secret = KEY.secret
    try:
        sealed = made_by_another_hand(header, secret=secret)
    except (JoseError, ValueError):  # the library will not write it: so write the header alone
        head = base64.urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        sealed = f"{head}.{SEALED.partition('.')[2]}"

    with pytest.raises(SealBroken, match="another kind"):
        opened(sealed)


def test_a_compressed_text_that_would_open_to_a_huge_one_is_refused_unopened() -> None:
    bomb = made_by_another_hand(HEADER | {"zip": "DEF"}, b'{"a":"' + b"a" * 10_000_000 + b'"}')
    assert len(bomb) < MAX_ENVELOPE_BYTES

    with pytest.raises(SealBroken, match="another kind"):
        opened(bomb)


@pytest.mark.parametrize(
    ("kind", "most"),
    [
        (Kind.REQUEST, MAX_REGISTER_BYTES),
        (Kind.ANSWER, MAX_ANSWER_BYTES),
        (Kind.NOTICE, MAX_ENVELOPE_BYTES),
    ],
)
def test_each_kind_may_be_so_large_and_no_larger(kind: Kind, most: int) -> None:
    assert opened(sealing.seal(KEY, kind, {"a": "a" * (most * 3 // 4 - 200)}), kind)

    with pytest.raises(SealBroken, match="too large"):
        opened(sealing.seal(KEY, kind, {"a": "a" * most}), kind)


def test_content_may_be_nested_as_deep_as_the_contract_says() -> None:
    assert opened(made_by_another_hand(HEADER, nested(MAX_NESTING)))


@pytest.mark.parametrize("depth", [MAX_NESTING + 1, 900, 20_000])
def test_content_nested_deeper_is_refused(depth: int) -> None:
    with pytest.raises(SealBroken):
        opened(made_by_another_hand(HEADER, nested(depth)))


@pytest.mark.parametrize(
    "plaintext",
    [
        b"",
        b"[]",
        b'"text"',
        b"1",
        b"null",
        b"{",
        b"\xff",
        b'{"a":NaN}',
        b'{"a":1e999}',
        b'{"a":-Infinity}',
        b'{"a":1}}',
        b'{"a":1,"a":1}',
        b'{"a":[{"b":1,"c":2,"b":3}]}',
        b'{"a":1,"\\u0061":2}',
    ],
)
def test_content_that_is_no_json_object_is_refused(plaintext: bytes) -> None:
    with pytest.raises(SealBroken):
        opened(made_by_another_hand(HEADER, plaintext))


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_header_nested_deep_is_refused(depth: int) -> None:
    head = base64.urlsafe_b64encode(nested(depth)).rstrip(b"=").decode()

    with pytest.raises(SealBroken):
        opened(f"{head}....")


def test_a_header_longer_than_any_of_ours_is_refused_and_not_kept() -> None:
    longest = sealing.seal(AppKey("k" * 32, b"s" * 32), Kind.REQUEST, {})
    assert sealing.header_of(longest)["kid"] == "k" * 32
    kept = sealing._read_header.cache_info().currsize

    for kid in ("a" * 400, "b" * 40_000):  # anybody may send such: memory is not theirs to fill
        head = base64.urlsafe_b64encode(json.dumps({"kid": kid}).encode()).decode().rstrip("=")
        with pytest.raises(SealBroken):
            sealing.header_of(f"{head}....")

    assert sealing._read_header.cache_info().currsize == kept
