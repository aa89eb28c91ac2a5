from __future__ import annotations

import base64
import pickle

import pytest

from session_client import AppKey, ConfigurationError, NotAcknowledged

SECRET = bytes(range(32))
ENCODED = base64.urlsafe_b64encode(SECRET).rstrip(b"=").decode()


def test_a_generated_key_survives_its_text_form() -> None:
    key = AppKey.generate()

    assert AppKey.parse(key.text()) == key


def test_two_generated_keys_differ() -> None:
    assert AppKey.generate() != AppKey.generate()


@pytest.mark.parametrize("text", [f"k1.{ENCODED}", f" k1.{ENCODED}\n", f"k1.{ENCODED}="])
def test_white_space_and_padding_do_not_matter(text: str) -> None:
    assert AppKey.parse(text) == AppKey("k1", SECRET)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k1",
        "k1.",
        f".{ENCODED}",
        ENCODED,
        f"k 1.{ENCODED}",
        f"{'k' * 33}.{ENCODED}",
        f"k1.{ENCODED[:-1]}",
        f"k1.{ENCODED}A",
        f"k1.{ENCODED}==",
        f"k1.!{ENCODED}",  # Python's own decoder would skip the "!"
        f"k1.{ENCODED[:20]}+{ENCODED[21:]}",
        f"k1.{ENCODED}\nk2.{ENCODED}",
        None,
        b"k1",
        42,
    ],
)
def test_what_is_no_key_is_refused(text: object) -> None:
    with pytest.raises(ConfigurationError):
        AppKey.parse(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(("kid", "secret"), [("k1", b"short"), ("", SECRET), ("k.1", SECRET)])
def test_a_key_made_of_wrong_parts_is_refused(kid: str, secret: bytes) -> None:
    with pytest.raises(ConfigurationError):
        AppKey(kid, secret)


def test_a_refused_key_is_not_quoted_in_the_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        AppKey.parse(f"k1.{ENCODED}oops")

    assert ENCODED[:8] not in str(caught.value) + repr(caught.value)
    assert "<kid>" in str(caught.value)


def test_the_repr_of_a_key_holds_its_kid_only() -> None:
    assert repr(AppKey("k1", SECRET)) == "AppKey(kid='k1')"


def test_errors_survive_the_way_between_processes() -> None:
    error = pickle.loads(pickle.dumps(NotAcknowledged("r" * 16, "no answer in time")))  # noqa: S301 - our own

    assert (error.request_id, error.why) == ("r" * 16, "no answer in time")
    assert "request_id=rrrrrrrrrrrrrrrr" in str(error)
