"""The cookie that names a browser's session: who may read it, what is written, and what never."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import Response

from session_client import (
    Authenticated,
    BrowserCookie,
    ConfigurationError,
    Denied,
    LoginRequired,
    Registered,
    StepUpRequired,
    Tokens,
    contract,
)

TOKEN = "msb1_" + "A-z_0" * 8 + "abc"
OTHER = "msb1_" + "x" * 43
DAY = timedelta(days=1)
HUB = BrowserCookie()
SHARED = BrowserCookie(domain="apps.example.com")
LOCAL = BrowserCookie(for_development=True)
COOKIES = [HUB, SHARED, LOCAL]
by_name: Any = lambda cookie: cookie.name  # noqa: E731


TOKENS = Tokens(access_token="a", token_type="bearer", expires_in=60)


def answer(token: str | None = TOKEN, known_browser: str | None = None) -> Authenticated:
    return Authenticated(
        user_id="ada",
        session_ref="ref",
        tokens=TOKENS,
        browser_token=token,
        known_browser=known_browser,
    )


def written(cookie: BrowserCookie, *given: Any, **more: Any) -> list[tuple[str, str]]:
    headers: list[tuple[str, str]] = []
    cookie.write(headers, *given, **more)
    return headers


def attributes(header: tuple[str, str]) -> list[str]:
    assert header[0] == "Set-Cookie"
    return header[1].split("; ")


def test_a_browser_takes_a_domains_cookie_from_hosts_below_it_alone() -> None:
    ours = ["apps.example.com", "Forum.Apps.example.com:8443"]
    others = ["example.com", "evil-apps.example.com", "127.0.0.1:5000"]

    assert [host for host in [*ours, *others] if SHARED.is_taken_from(host)] == ours
    assert all(map(HUB.is_taken_from, others))


# --- reading


@pytest.mark.parametrize("cookie", COOKIES, ids=by_name)
def test_it_reads_what_it_wrote(cookie: BrowserCookie) -> None:
    (pair, *_) = attributes(written(cookie, answer())[0])

    for header in (pair, pair.encode(), f"a=1; {pair}; b=2", [pair], [b"a=1", pair.encode()]):
        assert cookie.read(header) == TOKEN


@pytest.mark.parametrize("cookie", COOKIES, ids=by_name)
@pytest.mark.parametrize("value", ["", "x", TOKEN + "x", TOKEN[:-1], f'"{TOKEN}"', TOKEN + "\n"])
def test_what_is_no_token_is_none(cookie: BrowserCookie, value: str) -> None:
    assert cookie.read(f"{cookie.name}={value}") is None


@pytest.mark.parametrize(
    "header", [None, "", b"", [], ";", "=", ";;=;", "mosaic-sso", b"\xff=\xfe"]
)
def test_no_cookie_is_none(header: Any) -> None:
    assert [cookie.read(header) for cookie in COOKIES] == [None, None, None]


def test_each_kind_of_cookie_reads_its_own_name_alone() -> None:
    header = "; ".join(f"{cookie.name}={TOKEN}" for cookie in COOKIES)
    assert len({cookie.name for cookie in COOKIES}) == 3

    for cookie in COOKIES:
        assert cookie.read(header) == TOKEN
        assert cookie.read(f"{cookie.name.upper()}={OTHER}; {cookie.name}={TOKEN}") == TOKEN
        others = [other.name for other in COOKIES if other is not cookie]
        assert cookie.read("; ".join(f"{name}={OTHER}" for name in others)) is None


@pytest.mark.parametrize("cookie", COOKIES, ids=by_name)
@pytest.mark.parametrize("planted", [OTHER, TOKEN, "", "x", f'"{OTHER}"'])
def test_a_cookie_that_was_sent_twice_is_none_and_is_told_without_its_value(
    cookie: BrowserCookie, planted: str, caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = f"{cookie.name}={TOKEN}", f"{cookie.name}={planted}"
    cookie._warned_at = None
    with caplog.at_level(logging.WARNING, logger="session_client.browser_cookie"):
        for header in (f"{ours}; {theirs}", f"{theirs};{ours}", [theirs, ours]):
            assert cookie.read(header) is None

    (told,) = caplog.messages  # and not once for each request of an attacker
    assert cookie.name in told
    assert TOKEN not in told
    assert OTHER not in told


NAMES = st.sampled_from([cookie.name for cookie in COOKIES]) | st.text(max_size=12)
VALUES = st.sampled_from([TOKEN, OTHER, "", "x"]) | st.text(max_size=12)
SPACES = st.sampled_from(["", " ", "\t", "  "])


@given(
    pairs=st.lists(st.tuples(SPACES, NAMES, VALUES, SPACES), max_size=6),
    cookie=st.sampled_from(COOKIES),
)
def test_a_token_is_read_where_exactly_one_was_sent_under_the_name(
    pairs: list[tuple[str, str, str, str]], cookie: BrowserCookie
) -> None:
    """Whatever else is in the header; browsers join by semicolons and know nothing of quotes."""
    header = ";".join(f"{before}{name}={value}{after}" for before, name, value, after in pairs)
    sent = [
        pair.partition("=")[2].strip(" \t")
        for pair in header.split(";")
        if pair.partition("=")[0].strip(" \t") == cookie.name
    ]
    wanted = sent[0] if len(sent) == 1 and contract.is_browser_token(sent[0]) else None

    assert cookie.read(header) == wanted


@given(header=st.binary(max_size=200) | st.lists(st.binary(max_size=50)) | st.text(max_size=200))
def test_no_header_is_an_error(header: Any) -> None:
    for cookie in COOKIES:
        assert cookie.read(header) is None
        cookie.known(header)


# --- writing


def test_a_hubs_cookie_is_its_hosts_alone() -> None:
    cookie, uncached = written(HUB, answer())

    assert attributes(cookie) == [
        f"__Host-mosaic-sso={TOKEN}", "Path=/", "Secure", "HttpOnly", "SameSite=Lax",
    ]  # fmt: skip
    assert uncached == ("Cache-Control", "no-store")


def test_a_shared_cookie_is_for_the_hosts_below_its_domain() -> None:
    cookie, _ = written(SHARED, answer())

    assert attributes(cookie) == [
        f"__Secure-mosaic-sso={TOKEN}", "Domain=apps.example.com", "Path=/", "Secure",
        "HttpOnly", "SameSite=Lax",
    ]  # fmt: skip


def test_without_tls_only_for_development() -> None:
    cookie, _ = written(LOCAL, answer())

    assert attributes(cookie) == [
        f"mosaic-sso={TOKEN}", "Path=/", "HttpOnly", "SameSite=Lax",
    ]  # fmt: skip
    with pytest.raises(ConfigurationError, match="localhost"):
        BrowserCookie(domain="apps.example.com", for_development=True)


@pytest.mark.parametrize("cookie", COOKIES, ids=by_name)
@pytest.mark.parametrize(
    "value",
    [
        answer(None),
        LoginRequired("logged_out"),
        Denied("invalid_credentials"),
        StepUpRequired(reason="amr_missing", user_id="ada", session_ref="ref"),
        Registered(session_ref="ref", expires_in=60.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_answer_without_a_new_token_writes_nothing(cookie: BrowserCookie, value: Any) -> None:
    assert written(cookie, value) == []


def test_a_token_comes_with_a_step_up_and_a_registration_too() -> None:
    step_up = StepUpRequired(
        reason="amr_missing", user_id="ada", session_ref="ref", browser_token=TOKEN
    )
    registered = Registered(session_ref="ref", expires_in=60.0, browser_token=TOKEN)

    assert written(HUB, step_up) == written(HUB, registered) == written(HUB, answer())


@pytest.mark.parametrize("token", ["", "x", f"{TOKEN}; Domain=example.com", f"{TOKEN}\r\nX: y"])
def test_what_is_no_token_is_not_written(token: str) -> None:
    assert written(HUB, answer(token)) == []


@pytest.mark.parametrize("days", [1, 14])
def test_it_outlives_the_browser_where_the_user_wants_it(days: int) -> None:
    (cookie, _) = written(HUB, answer(), remember=days * DAY)

    assert f"Max-Age={days * 86400}" in attributes(cookie)


@pytest.mark.parametrize("remember", [timedelta(0), -DAY, 14 * DAY + timedelta(seconds=1)])
def test_it_outlives_no_session(remember: timedelta) -> None:
    with pytest.raises(ConfigurationError, match="remember"):
        HUB.headers_for(answer(), remember=remember)


@pytest.mark.parametrize("cookie", COOKIES, ids=by_name)
def test_a_logout_clears_the_same_cookie(cookie: BrowserCookie) -> None:
    headers: list[tuple[str, str]] = []
    (kept, _) = written(cookie, answer())

    cookie.clear(headers)

    (cleared, uncached) = headers
    same = [part for part in attributes(kept) if not part.startswith(cookie.name)]
    assert [part for part in attributes(cleared) if part in same] == same
    assert set(attributes(cleared)) - set(same) == {f"{cookie.name}=", "Max-Age=0"}
    assert uncached == ("Cache-Control", "no-store")


def test_after_a_move_the_former_cookies_are_cleared_with_each_write_and_at_logout() -> None:
    moved = BrowserCookie(
        domain="apps.example.com", former_domains=["example.com", None, "apps.example.com"]
    )
    former = [
        f"__{name}; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax"
        for name in ("Secure-mosaic-sso=; Domain=example.com", "Host-mosaic-sso=")
    ]

    told = [value for name, value in written(moved, answer()) if name == "Set-Cookie"]
    cleared = [value for name, value in moved.headers_to_clear() if name == "Set-Cookie"]

    assert told[1:] == cleared[1:] == former
    assert told[0].startswith(f"__Secure-mosaic-sso={TOKEN}; Domain=apps.example.com")
    assert written(moved, answer(None)) == []


@pytest.mark.parametrize(
    "domain",
    ["", "localhost", ".example.com", "Example.com", "example.com.", "a b.example", "example.com:1",
     "https://example.com", "example.com;", "*.example.com", "a..b", "-a.example", "x" * 64 + ".a",
     "a." * 126 + "aa"],
)  # fmt: skip
def test_a_domain_that_is_none_is_refused(domain: str) -> None:
    with pytest.raises(ConfigurationError, match="domain"):
        BrowserCookie(domain=domain)
    with pytest.raises(ConfigurationError, match="domain"):
        BrowserCookie(former_domains=[domain])


# --- the mark of a known browser


@pytest.mark.parametrize("cookie", [HUB, SHARED], ids=by_name)
def test_a_known_browser_is_marked_for_its_host_and_for_half_a_year(cookie: BrowserCookie) -> None:
    mark = "eyJ-a_mark.of~the/worker+s=="

    (_, known, _) = written(cookie, answer(known_browser=mark))

    assert attributes(known) == [
        f"__Host-mosaic-known={mark}", "Path=/", f"Max-Age={180 * 86400}", "Secure", "HttpOnly",
        "SameSite=Lax",
    ]  # fmt: skip
    assert cookie.known(f"{cookie.name}={TOKEN}; {attributes(known)[0]}") == mark
    assert "mosaic-known" not in str(cookie.headers_to_clear())


@pytest.mark.parametrize("mark", ["", "a b", 'a"b', "a;b", "a\r\nb", "ä", "x" * 4097])
def test_a_mark_that_would_end_the_cookie_is_neither_written_nor_read(mark: str) -> None:
    assert written(HUB, answer(None, known_browser=mark)) == []
    assert HUB.known(f"__Host-mosaic-known={mark}".split(";", maxsplit=1)[0]) in {None, "a"}


# --- frameworks


class FlaskHeaders:
    """As werkzeug's: `add` keeps what is there."""

    def __init__(self) -> None:
        self.pairs: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        self.pairs.append((name, value))


def test_headers_of_each_framework_take_all_cookies() -> None:
    moved = BrowserCookie(domain="apps.example.com", former_domains=["example.com"])
    starlette, flask = Response(), FlaskHeaders()

    moved.write(starlette.headers, answer())
    moved.write(flask, answer())

    assert len(starlette.headers.getlist("set-cookie")) == 2
    assert starlette.headers["cache-control"] == "no-store"
    assert flask.pairs == moved.headers_for(answer())
