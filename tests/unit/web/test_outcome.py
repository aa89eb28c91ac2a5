"""What an answer says of cookies, and what a browser sends once it has got the answer."""

from __future__ import annotations

import pytest

from session_client import BrowserCookie
from session_client.web.outcome import by_name, cookies_after, host_cookie
from tests.unit.web.rig import OTHER_TOKEN, TOKEN, authenticated


@pytest.mark.parametrize(
    ("sent", "written", "then"),
    [
        (None, [], ""),
        ("a=1; b=2", [], "a=1; b=2"),
        ("a=1; b=2", [("a", "3", 60)], "b=2; a=3"),
        ("a=1; b=2", [("a", "", 0)], "b=2"),
        ("a=1; a=2", [("a", "3==", 60)], "a=3=="),
        ("b=2", [("a", "1", 60), ("a", "", 0)], "b=2"),
        ("b=2", [("a", "", 0), ("a", "1", 60)], "b=2; a=1"),
    ],
)
def test_a_browser_sends_what_was_written_last(
    sent: str | None, written: list[tuple[str, str, int]], then: str
) -> None:
    headers = [host_cookie(*each, is_secure=True) for each in written]

    assert cookies_after(sent, [("Vary", "Cookie"), *headers]) == then


def test_a_cookie_stands_once_in_an_answer_and_once_more_at_each_former_domain() -> None:
    moved = BrowserCookie(domain="apps.example", former_domains=["old.example"])
    first, second = (
        moved.headers_for(authenticated(browser_token=token)) for token in (TOKEN, OTHER_TOKEN)
    )

    cookies, others = by_name((*first, *second))

    assert [text.partition("; Path")[0] for text in cookies] == [
        f"{moved.name}={OTHER_TOKEN}; Domain=apps.example",
        f"{moved.name}=; Domain=old.example",
    ]
    assert others == {"Cache-Control": "no-store"}
    assert moved.read(cookies_after(f"{moved.name}={TOKEN}", first + second)) == OTHER_TOKEN
