"""Where a notice may go: nowhere but to somebody's public server."""

from __future__ import annotations

import pytest

from worker.backchannel import check_address
from worker.backchannel.networks import why_refused
from worker.errors import NoticeRefused

# --- IP addresses, whoever resolved them

PUBLIC = [
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "169.253.255.255",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2606:2800:220:1:248:1893:25c8:1946",
    "2a00:1450:4001::8a",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",  # what an IPv6-only network sees of an IPv4 server
]
LOOPBACK = ["127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1"]
PRIVATE = [
    "10.0.0.0",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "100.127.255.255",
    "fc00::1",
    "fd12:3456::1",
    "::ffff:10.0.0.1",
    "::ffff:a00:1",
    "64:ff9b::10.0.0.1",
]
METADATA = [
    "169.254.169.254",
    "169.254.170.2",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
]
NEVER = {
    "a link-local address": ["169.254.0.1", "fe80::1", "fe80::1%eth0", "::ffff:169.254.1.1"],
    "an unspecified address": ["0.0.0.0", "0.1.2.3", "::", "::ffff:0.0.0.0"],  # noqa: S104
    "a multicast address": ["224.0.0.1", "239.255.255.255", "ff02::1"],
    "a reserved address": [
        "192.0.0.8",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "192.88.99.1",
        "198.18.0.1",
        "198.19.255.255",
        "240.0.0.1",
        "255.255.255.255",
        "2001::1",  # Teredo
        "2001:0:7f00:1::",
        "2001:2::1",
        "2001:db8::1",
        "3fff::1",
        "2002:7f00:1::1",  # 6to4 of 127.0.0.1
        "2002:808:808::1",  # 6to4 of a public address: nobody serves from there
        "::127.0.0.1",  # IPv4-compatible
        "::8.8.8.8",
        "::ffff:0:7f00:1",  # IPv4-translated
        "64:ff9b:1::7f00:1",
        "100::1",
        "4000::1",
        "5f00::1",
        "fec0::1",
    ],
}


def judged(addresses: list[str], *, allow_private: bool) -> dict[str, str | None]:
    return {address: why_refused(address, allow_private=allow_private) for address in addresses}


@pytest.mark.parametrize("allow_private", [False, True])
def test_a_public_address_is_allowed(*, allow_private: bool) -> None:
    assert judged(PUBLIC, allow_private=allow_private) == dict.fromkeys(PUBLIC)


@pytest.mark.parametrize(
    ("addresses", "words"),
    [(LOOPBACK, "a loopback address"), (PRIVATE, "a private address")],
    ids=["loopback", "private"],
)
def test_an_address_of_ours_is_refused_unless_private_ones_are_allowed(
    addresses: list[str], words: str
) -> None:
    assert judged(addresses, allow_private=False) == dict.fromkeys(addresses, words)
    assert judged(addresses, allow_private=True) == dict.fromkeys(addresses)


@pytest.mark.parametrize("allow_private", [False, True])
@pytest.mark.parametrize("words", ["a cloud metadata service", *NEVER])
def test_what_is_nobodys_server_is_always_refused(words: str, *, allow_private: bool) -> None:
    addresses = METADATA if words == "a cloud metadata service" else NEVER[words]

    assert judged(addresses, allow_private=allow_private) == dict.fromkeys(addresses, words)


def test_what_is_no_address_is_not_judged() -> None:
    with pytest.raises(ValueError, match="does not appear"):
        why_refused("app.example", allow_private=True)


# --- URLs, as registered

GOOD_URLS = [
    "https://app.example/logout",
    "https://app.example",
    "https://app.example:8443/logout?tenant=7&x=%20",
    "HTTPS://App.Example./logout",
    "https://xn--bcher-kva.example/logout",
    "https://a_b.example/",
    "https://8.8.8.8/logout",
    "https://[2606:2800:220:1:248:1893:25c8:1946]:8443/logout",
    "https://localhost.example/",
]
LOCAL_URLS = [
    "https://127.0.0.1/",
    "https://127.1/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7F.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://[::1]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[0:0:0:0:0:ffff:127.0.0.1]:8443/",
    "https://10.1.2.3/",
    "https://localhost/",
    "https://LOCALHOST./",
    "https://app.localhost/",
]
BAD_URLS = {
    "only https": [
        "http://app.example/",
        "//app.example/",
        "ftp://app.example/",
        "file://app.example/etc/passwd",
    ],
    "user and password": [
        "https://ada@app.example/",
        "https://ada:pw@app.example/",
        "https://@app.example/",
        "https://app.example:443@127.0.0.1/",
    ],
    "not a plain absolute URL": [
        "",
        "app.example",
        "https:///logout",
        "https:app.example",
        "https://app.example/#top",
        "https://app.example/#",
        "https://app.example:0/",
        "https://app.example:65536/",
        "https://app.example:http/",
        "https://[::1/",
        "https://[zz]/",
        "https://app.example\\@127.0.0.1/",
        " https://app.example/",
        "https://app.example/\n",
        "https://app\t.example/",
        "https://app.example/a b",
        "https://app.example/\x00",
        "https://bücher.example/",
        "https://①②⑦.⓪.⓪.①/",  # some libraries read it as 127.0.0.1
    ],
    "neither a name nor an IP address": [
        "https://a..example/",
        "https://.example/",
        "https://%31%32%37.0.0.1/",
        "https://app.example,127.0.0.1/",
        f"https://{'a' * 64}.example/",
        f"https://{'a.' * 130}example/",
        "https://[fe80::1%25eth0]/",
        "https://*/",
    ],
    "is a link-local address": ["https://169.254.1.1/", "https://[fe80::1]/"],
    "is a cloud metadata service": ["https://169.254.169.254/", "https://0xa9fea9fe/"],
    "is an unspecified address": ["https://0.0.0.0/", "https://0/", "https://[::]/"],
    "is a reserved address": ["https://255.255.255.255/", "https://[2002:7f00:1::]/"],
}
BAD_PAIRS = [(words, url) for words, urls in BAD_URLS.items() for url in urls]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_public_https_url_may_be_registered(url: str) -> None:
    check_address(url, allow_private=False)


@pytest.mark.parametrize("url", LOCAL_URLS)
def test_a_local_url_may_be_registered_only_where_private_addresses_are_allowed(url: str) -> None:
    with pytest.raises(NoticeRefused, match="its host is"):
        check_address(url, allow_private=False)
    check_address(url, allow_private=True)
    check_address(url.replace("https:", "http:"), allow_private=True)


@pytest.mark.parametrize(("words", "url"), BAD_PAIRS)
def test_a_bad_url_is_refused_and_the_error_says_why_without_quoting_it(
    words: str, url: str
) -> None:
    with pytest.raises(NoticeRefused, match=words):
        check_address(url, allow_private=False)
    if url != "http://app.example/":
        with pytest.raises(NoticeRefused, match=words):
            check_address(url, allow_private=True)

    with pytest.raises(NoticeRefused) as caught:
        check_address(f"{url}?key=canary-31", allow_private=False)

    assert "canary" not in str(caught.value)
    assert caught.value.__context__ is None


@pytest.mark.parametrize("url", ["http://app.example/", LOCAL_URLS[0]])
def test_what_a_laptop_may_allow_itself_names_the_setting(url: str) -> None:
    with pytest.raises(NoticeRefused, match="see MOSAIC_SESSIONS_NOTICE_PRIVATE_ADDRESSES"):
        check_address(url, allow_private=False)


@pytest.mark.parametrize("url", ["ftp://app.example/", "https://169.254.1.1/", "https://0/"])
def test_what_nothing_allows_names_no_setting(url: str) -> None:
    with pytest.raises(NoticeRefused) as caught:
        check_address(url, allow_private=False)

    assert "MOSAIC" not in str(caught.value)
