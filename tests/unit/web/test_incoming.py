"""Where a request comes from, and where it may be led to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from session_client import BrowserCookie
from session_client.errors import ConfigurationError
from session_client.web import Local, Options, from_dict, safe_next
from tests.unit.web.rig import local, request


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "basket",
        "//evil.example",
        "/\\evil.example",
        "\\/evil.example",
        "https://evil.example",
        "/ok\\..",
        "/a b",
        "/a\nSet-Cookie: x",
        "/a\x00",
        "/\t/evil.example",
        " /a",
        "javascript:alert(1)",
        "/" + "a" * 2000,
    ],
)
def test_what_may_lead_elsewhere_leads_home(text: str | None) -> None:
    assert safe_next(text) == "/"


@pytest.mark.parametrize("text", ["/", "/a", "/a/b?c=d&e=//f", "/a?next=https://x", "/ä"])
def test_a_path_of_this_host_is_kept(text: str) -> None:
    assert safe_next(text) == text


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("https://shop.example/a?b=c", "/a?b=c"),
        ("https://SHOP.example/a#d", "/a"),
        ("https://evil.example/a", "/"),
        ("https://shop.example.evil.example/a", "/"),
        ("https://shop.example//evil.example", "/"),
        ("https://[", "/"),
        ("", "/"),
    ],
)
def test_a_form_leads_back_to_the_page_it_stood_on(referer: str, back: str) -> None:
    assert request("/buy", {"Referer": referer}, method="POST").way_back == back


@pytest.mark.parametrize(
    ("host", "origin", "is_from_here"),
    [
        ("shop.example:443", "https://shop.example", True),  # a proxy has added the port
        ("SHOP.example:80", "http://shop.example", True),
        ("shop.example:8443", "https://shop.example:8443", True),
        ("shop.example:8443", "https://shop.example", False),
        ("shop.example:80", "https://shop.example", False),
        ("shop.example:443", "https://evil.example", False),
        ("shop.example:443", "null", False),
    ],
)
def test_a_port_that_browsers_leave_out_makes_no_other_site(
    host: str, origin: str, *, is_from_here: bool
) -> None:
    headers = {"Origin": origin, "Referer": f"{origin}/a"}
    sent = replace(request("/buy", headers, method="POST"), host=host)

    assert (sent.is_from_here(), sent.way_back == "/a") == (is_from_here, is_from_here)


def test_a_path_that_browsers_read_as_a_host_is_no_way_back() -> None:
    assert request("//evil.example/", {}).way_back == "/"


def test_an_option_that_leads_elsewhere_is_refused_by_name() -> None:
    for name, wrong in (("login", "//evil"), ("entry", "enter"), ("notices", "https://a/b")):
        options: Any = {name: wrong}
        with pytest.raises(ConfigurationError, match=name):
            Options(**options)
    with pytest.raises(ConfigurationError, match="trusted_origins"):
        Options(trusted_origins="https://a.example")
    with pytest.raises(ConfigurationError, match="grace"):
        Options(grace=-1)


def test_a_cookie_and_a_domain_for_one_are_refused_together() -> None:
    for domain in ("apps.example.com", "localhost"):
        for cookie in (
            BrowserCookie(),
            BrowserCookie(for_development=True),
            BrowserCookie(domain="apps.example.com"),
            BrowserCookie(domain="apps.example.com", former_domains=["old.example.com"]),
        ):
            with pytest.raises(ConfigurationError, match="cookie_domain"):
                Options(cookie=cookie, cookie_domain=domain)
            assert Options(cookie=cookie).cookie is cookie


def test_the_cookie_is_the_domains_or_for_development() -> None:
    assert Options(cookie_domain="apps.example.com").cookie.name == "__Secure-mosaic-sso"
    assert Options(cookie_domain="localhost").cookie.name == "mosaic-sso"
    assert Options().cookie.name == "__Host-mosaic-sso"


@pytest.mark.parametrize("kept", [local(), local().over()])
def test_a_local_session_is_read_as_it_was_written(kept: Local) -> None:
    read = from_dict(kept.to_dict())

    assert read is not None
    assert read.to_dict() == kept.to_dict()
    assert read.is_over is kept.is_over


@pytest.mark.parametrize("data", [None, 7, [], {}, {"u": "ada"}, {"over": True}])
def test_what_is_no_local_session_is_none(data: object) -> None:
    assert from_dict(data) is None


def test_a_local_session_holds_no_token_of_the_browser() -> None:
    assert "msb1_" not in repr(local().to_dict())
