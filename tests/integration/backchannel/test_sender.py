"""Notices over real sockets: receivers as they should be, and as they are."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from sandbox.ports import HOST, free_port
from sandbox.processes import poll_until
from tests.certificates import make_certificate
from tests.integration.backchannel.notices_rig import (
    ISSUER,
    Clock,
    Names,
    Receiver,
    TlsTalk,
    answer,
    post,
    read_request,
    rsa_pem,
    saying,
    sending,
    token_in,
    verify_logout_token,
)
from tests.integration.mosaic.mosaic_rig import RawServer
from worker.backchannel import NoticeSender
from worker.backchannel.sender import MAX_BODY_BYTES
from worker.errors import NoticeRefused, NoticeUndelivered, NoticeUnsigned
from worker.http_client import Deadline, HttpAnswer, HttpClient, HttpRequest, NoAnswer, Resolver

Talk = Callable[[socket.socket], None]

QUERY = "key=canary-31"  # named, so that no line of source in a traceback holds it


@pytest.fixture
def sender() -> Iterator[NoticeSender]:
    with sending() as sender:
        yield sender


def failure(sender: NoticeSender, url: str, timeout_seconds: float = 5.0) -> Exception:
    with pytest.raises((NoticeUndelivered, NoticeRefused, NoticeUnsigned)) as caught:
        post(sender, url, timeout_seconds=timeout_seconds)
    assert caught.value.__context__ is None
    return caught.value


# --- a good receiver


def test_a_notice_goes_straight_also_where_mosaic_is_behind_a_proxy() -> None:
    nobody = f"http://{HOST}:{free_port()}"
    with sending(mosaic_proxy=nobody) as sender, Receiver(saying(answer())) as server:
        post(sender, server.url)

        assert len(server.requests) == 1


def test_a_receiver_gets_one_token_it_can_verify() -> None:
    clock = Clock()
    with sending(clock=clock) as sender, Receiver(saying(answer())) as server:
        post(sender, f"{server.url}/logout?tenant=7")

        (request,) = server.requests
        claims = verify_logout_token(
            token_in(request),
            sender.public_keys(),
            issuer=ISSUER,
            audience="shop",
            now=clock.moment,
        )

    assert request.startswith(b"POST /logout?tenant=7 HTTP/1.1\r\n")
    assert (claims["sub"], claims["sid"], claims["jti"]) == ("ada", "ref-1", "notice-1")


def test_a_later_attempt_brings_a_token_that_is_valid_then() -> None:
    clock = Clock()
    replies = [answer("503 Later"), answer()]

    def talk(connection: socket.socket) -> None:
        connection.sendall(replies.pop(0).encode())

    with sending(clock=clock) as sender, Receiver(talk) as server:
        with pytest.raises(NoticeUndelivered):
            post(sender, server.url)
        clock.advance(3600)
        post(sender, server.url)

        ids = set()
        for request, then in zip(server.requests, (-3600, 0), strict=True):
            clock.advance(then)
            claims = verify_logout_token(
                token_in(request),
                sender.public_keys(),
                issuer=ISSUER,
                audience="shop",
                now=clock.moment,
            )
            ids.add(claims["jti"])
            clock.advance(-then)

    assert ids == {"notice-1"}


def test_a_receiver_that_keeps_its_connection_open_is_not_connected_to_again(
    sender: NoticeSender,
) -> None:
    def talk(connection: socket.socket) -> None:
        for number in range(3):
            if number:
                read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with Receiver(talk) as server:
        for _ in range(3):
            post(sender, server.url)

    assert len(server.requests) == 1  # one for each connection


# --- answers

OUTCOMES = {
    "200 OK": None,
    "204 No Content": None,
    "202 Accepted": None,
    "400 Bad Request": NoticeRefused,
    "301 Moved": NoticeRefused,
    "404 Not Found": NoticeUndelivered,
    "429 Slow": NoticeUndelivered,
    "500 Oops": NoticeUndelivered,
    "503 Later": NoticeUndelivered,
}


def test_the_status_decides(sender: NoticeSender) -> None:
    for status, expected in OUTCOMES.items():
        with Receiver(saying(answer(status))) as server:
            if expected is None:
                post(sender, server.url)
            else:
                assert type(failure(sender, server.url)) is expected, status

        assert len(server.requests) == 1


@pytest.mark.parametrize(("value", "expected"), [("17", 17.0), ("999999", 3600.0), ("soon", 1.0)])
def test_the_app_may_say_when_to_try_again(
    sender: NoticeSender, value: str, expected: float
) -> None:
    with Receiver(saying(answer("429 Slow", f"Retry-After: {value}"))) as server:
        error = failure(sender, server.url)

    assert isinstance(error, NoticeUndelivered)
    assert error.retry_after == expected


@pytest.mark.parametrize("status", ["301", "302", "303", "307", "308"])
def test_a_redirect_is_not_followed(sender: NoticeSender, status: str) -> None:
    with Receiver(saying(answer())) as elsewhere:
        reply = answer(f"{status} Over there", f"Location: {elsewhere.url}/logout")
        with Receiver(saying(reply)) as server:
            assert isinstance(failure(sender, server.url), NoticeRefused)

    assert len(server.requests) == 1
    assert elsewhere.requests == []


def test_no_cookie_crosses_from_one_notice_to_the_next(sender: NoticeSender) -> None:
    with Receiver(saying(answer("200 OK", "Set-Cookie: user=ada; Path=/"))) as server:
        for _ in range(2):
            post(sender, server.url)

    assert len(server.requests) == 2
    assert not any(b"cookie" in request.lower() for request in server.requests)


# --- receivers that do not behave


def never_stop(status: str) -> tuple[Talk, list[int]]:
    sent = [0]

    def talk(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {status}\r\nConnection: close\r\n\r\n".encode())
        while True:
            sent[0] += connection.send(b"x" * 65536)

    return talk, sent


def test_an_endless_body_is_not_read_to_its_end(sender: NoticeSender) -> None:
    talk, sent = never_stop("200 OK")
    with Receiver(talk) as server:
        post(sender, server.url)

    assert sent[0] < 32 * 1024 * 1024  # what the system's buffers took


def test_the_body_of_an_error_is_not_read_to_its_end_either(sender: NoticeSender) -> None:
    talk, _ = never_stop("500 Oops")
    with Receiver(talk) as server:
        assert isinstance(failure(sender, server.url), NoticeUndelivered)


@pytest.mark.parametrize("status", ["200 OK", "500 Oops"])
def test_ten_megabytes_change_nothing_about_the_status(sender: NoticeSender, status: str) -> None:
    with Receiver(saying(answer(status, body="x" * 10_000_000))) as server:
        if status == "200 OK":
            post(sender, server.url)
        else:
            assert isinstance(failure(sender, server.url), NoticeUndelivered)


def test_no_more_of_a_body_is_read_than_is_allowed() -> None:
    for size, expected in ((MAX_BODY_BYTES, MAX_BODY_BYTES), (MAX_BODY_BYTES + 1, None)):
        client = HttpClient(max_body_bytes=MAX_BODY_BYTES, needs_body=False)
        with Receiver(saying(answer(body="x" * size))) as server:
            found = client.send(HttpRequest("POST", server.url), Deadline.after(5))
        client.close()

        assert isinstance(found, HttpAnswer)
        assert (None if found.body is None else len(found.body)) == expected


def hang(connection: socket.socket) -> None:
    connection.recv(1)  # until the other side gives up


def drip(content: bytes, after: bytes = b"") -> Talk:
    def talk(connection: socket.socket) -> None:
        connection.sendall(after)
        for number in range(len(content)):
            connection.sendall(content[number : number + 1])
            time.sleep(0.02)

    return talk


def reset(connection: socket.socket) -> None:
    # Closing with nothing to linger for sends RST.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


UNUSABLE: dict[str, Talk] = {
    "hangs": hang,
    "drips": drip(b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000),
    "says 100 for ever": drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 100),
    "resets": reset,
    "closes": saying(b""),
    "stops in the status": saying(b"HTTP/1.1 20"),
    "talks nonsense": saying(b"nonsense\r\n\r\n"),
    "has endless headers": saying(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1_000_000),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_receiver_that_gives_no_answer_is_tried_again_later(
    sender: NoticeSender, name: str
) -> None:
    with Receiver(UNUSABLE[name]) as server:
        started_at = time.monotonic()
        error = failure(sender, server.url, timeout_seconds=0.4)

    assert isinstance(error, NoticeUndelivered)
    assert time.monotonic() - started_at < 5  # what drips takes 20 and more


CUT_BODIES: dict[str, Talk] = {
    "drips": drip(b"x" * 1000, after=answer(body="x" * 1000).encode()[:-1000]),
    "is cut": saying(answer(body="x" * 1000)[:-1]),
}


@pytest.mark.parametrize("name", CUT_BODIES)
def test_an_app_that_said_yes_has_said_yes_whatever_its_body_does(
    sender: NoticeSender, name: str
) -> None:
    with Receiver(CUT_BODIES[name]) as server:
        started_at = time.monotonic()
        post(sender, server.url, timeout_seconds=2.5)

    assert time.monotonic() - started_at < 10  # what drips takes 20


def test_nobody_at_the_port_is_no_answer(sender: NoticeSender) -> None:
    assert isinstance(failure(sender, f"http://127.0.0.1:{free_port()}/"), NoticeUndelivered)


def test_no_time_left_is_no_answer(sender: NoticeSender) -> None:
    with Receiver(saying(answer())) as server:
        assert isinstance(failure(sender, server.url, timeout_seconds=0), NoticeUndelivered)

    assert server.requests == []


def test_a_slow_receiver_holds_up_nobody_else(sender: NoticeSender) -> None:
    over = threading.Event()

    def wait(_: socket.socket) -> None:
        over.wait(60)

    with (
        Receiver(wait) as slow,
        Receiver(saying(answer())) as quick,
        ThreadPoolExecutor(5) as pool,
    ):
        waiting = [pool.submit(failure, sender, slow.url, timeout_seconds=60) for _ in range(4)]
        poll_until(lambda: slow.requests, 30)
        for _ in range(5):
            pool.submit(post, sender, quick.url).result(30)

        assert not any(delivery.done() for delivery in waiting)
        over.set()
        assert all(isinstance(delivery.result(60), NoticeUndelivered) for delivery in waiting)


# --- names and addresses


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Where connections would go, in a machine from which none succeeds."""
    tried: list[tuple[str, int]] = []

    def refuse(address: tuple[str, int], *_: object, **__: object) -> socket.socket:
        tried.append(address)
        raise ConnectionRefusedError

    def fail(*_: object, **__: object) -> None:
        pytest.fail("the system's resolver was asked")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", fail)
    return tried


def test_the_connection_goes_to_the_address_that_was_checked(
    connections: list[tuple[str, int]],
) -> None:
    names = Names([["93.184.216.34"], ["127.0.0.1"]])  # what a rebinding name server does
    with sending(names, notice_private_addresses=False) as sender:
        assert isinstance(failure(sender, "https://app.example:8443/"), NoticeUndelivered)

        assert names.asked == ["app.example"]
        assert connections == [("93.184.216.34", 8443)]


def test_the_next_notice_sees_that_the_name_became_private(
    connections: list[tuple[str, int]],
) -> None:
    names = Names([["93.184.216.34"], ["127.0.0.1"]])
    with sending(names, notice_private_addresses=False) as sender:
        failure(sender, "https://app.example/")
        connections.clear()
        error = failure(sender, "https://app.example/")

    assert isinstance(error, NoticeRefused)
    assert "a loopback address" in str(error)
    assert connections == []


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["::1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::ffff:10.0.0.1"],
        ["93.184.216.34", "192.168.0.1"],
        ["93.184.216.34", "2606:2800:220:1::1", "fe80::1%eth0"],
    ],
)
def test_one_address_that_is_not_public_is_enough_to_refuse(
    connections: list[tuple[str, int]], addresses: list[str]
) -> None:
    with sending(Names([addresses]), notice_private_addresses=False) as sender:
        assert isinstance(failure(sender, "https://app.example/"), NoticeRefused)

    assert connections == []


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://0x7f000001/",
        "https://[::ffff:127.0.0.1]/",
        "http://a.example/",
    ],
)
def test_a_bad_address_is_refused_again_at_delivery(
    connections: list[tuple[str, int]], url: str
) -> None:
    names = Names([["93.184.216.34"]])
    with sending(names, notice_private_addresses=False) as sender:
        assert isinstance(failure(sender, url), NoticeRefused)

    assert (connections, names.asked) == ([], [])


def test_metadata_is_refused_even_where_private_addresses_are_allowed(
    connections: list[tuple[str, int]],
) -> None:
    with sending(Names([["169.254.169.254"]])) as sender:
        assert isinstance(failure(sender, "http://app.example/"), NoticeRefused)

    assert connections == []


def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    with Receiver(saying(answer())) as server, sending(Names([["::1", "127.0.0.1"]])) as sender:
        post(sender, server.url.replace("127.0.0.1", "app.example"))

    assert b"host: app.example:" in server.requests[0].lower()


def test_a_name_that_does_not_resolve_may_do_so_later(sender: NoticeSender) -> None:
    assert isinstance(failure(sender, "https://app.example/"), NoticeUndelivered)


def test_a_name_server_that_hangs_is_given_up_at_the_deadline() -> None:
    gate = threading.Event()

    def wait(_: str) -> list[str]:
        gate.wait(60)
        return ["127.0.0.1"]

    with sending(wait) as sender:
        started_at = time.monotonic()
        error = failure(sender, "https://app.example/", timeout_seconds=0.3)
        elapsed = time.monotonic() - started_at
        gate.set()

    assert isinstance(error, NoticeUndelivered)
    assert elapsed < 5


def test_proxy_variables_are_ignored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with sending() as sender, Receiver(saying(answer())) as server:
        post(sender, server.url)

    assert len(server.requests) == 1


# --- TLS


def test_a_self_signed_receiver_is_not_talked_to(sender: NoticeSender, tmp_path: Path) -> None:
    talk = TlsTalk(make_certificate(tmp_path, "127.0.0.1"))
    with RawServer(talk, reads_first=False) as server:
        error = failure(sender, server.url.replace("http:", "https:"))

    assert isinstance(error, NoticeUndelivered)
    assert talk.requests == []


@pytest.fixture
def talk(tmp_path: Path) -> TlsTalk:
    """A receiver with a certificate for app.example, its own authority."""
    return TlsTalk(make_certificate(tmp_path, "app.example"))


def trusting(talk: TlsTalk) -> AbstractContextManager[NoticeSender]:
    """A sender whose operator trusts that authority, as a company's own is."""
    authority = talk.certificate.read_text(encoding="ascii")
    return sending(Names([["127.0.0.1"]]), ca_certificates=authority)


def test_tls_and_host_header_carry_the_name_and_not_the_address(talk: TlsTalk) -> None:
    with (
        RawServer(talk, reads_first=False) as server,
        trusting(talk) as sender,
    ):
        port = server.url.rpartition(":")[2]
        post(sender, f"https://app.example:{port}/logout")

    assert talk.names == ["app.example"]
    assert f"\r\nHost: app.example:{port}\r\n".encode() in talk.requests[0]


def test_a_certificate_for_another_name_is_not_accepted(talk: TlsTalk) -> None:
    with (
        RawServer(talk, reads_first=False) as server,
        trusting(talk) as sender,
    ):
        url = server.url.replace("http:", "https:").replace("127.0.0.1", "other.example")
        error = failure(sender, url)

    assert isinstance(error, NoticeUndelivered)
    assert talk.requests == []


@pytest.mark.parametrize("name", ["hangs", "drips"])
def test_a_handshake_that_does_not_end_is_given_up_at_the_deadline(
    sender: NoticeSender, name: str
) -> None:
    header_of_a_long_record = b"\x16\x03\x03\x3f\xff"
    talk = {"hangs": hang, "drips": drip(header_of_a_long_record + b"\x02" * 1000)}[name]
    with RawServer(talk) as server:
        started_at = time.monotonic()
        error = failure(sender, server.url.replace("http:", "https:"), timeout_seconds=0.4)

    assert isinstance(error, NoticeUndelivered)
    assert time.monotonic() - started_at < 5  # what drips takes 20


# --- silence, and what is missing


def test_neither_token_nor_query_is_ever_written(
    sender: NoticeSender, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    written: list[str] = []
    for reply in (answer(), answer("302 F", "Location: /"), answer("400 No"), answer("500 O"), ""):
        with Receiver(saying(reply)) as server:
            try:
                post(sender, f"{server.url}/logout?{QUERY}")
            except (NoticeRefused, NoticeUndelivered) as error:
                written += traceback.format_exception(error)
            token = token_in(server.requests[0])
    for url in (f"https://app.example/?{QUERY}", f"https://a:b/?{QUERY}"):
        try:
            post(sender, url)
        except (NoticeRefused, NoticeUndelivered) as error:
            written += [str(error), repr(error)]
    written += [caplog.text, *capfd.readouterr()]

    everything = "".join(written)
    assert "NoticeRefused" in everything
    assert "canary" not in everything
    assert token.split(".")[1][:20] not in everything


def test_a_request_shows_nothing_of_itself() -> None:
    request = HttpRequest("POST", "https://app.example/?key=canary", {"A": "canary"}, b"canary")

    assert repr(request) == "HttpRequest(method='POST')"


@pytest.mark.parametrize(
    "missing", [{"notice_signing_keys"}, {"notice_signing_keys", "notice_issuer"}]
)
def test_without_issuer_or_keys_the_missing_settings_are_named(missing: set[str]) -> None:
    with (
        Receiver(saying(answer())) as server,
        sending(**dict.fromkeys(missing)) as sender,
    ):
        error = failure(sender, server.url)

    assert isinstance(error, NoticeUnsigned)
    for name in ("NOTICE_ISSUER", "NOTICE_SIGNING_KEYS"):
        assert (f"MOSAIC_SESSIONS_{name}" in str(error)) is (name.lower() in missing)
    assert server.requests == []


def test_a_url_the_client_cannot_read_is_refused() -> None:
    class Puzzled(HttpClient):
        def send(self, *_: object) -> NoAnswer:
            return NoAnswer("InvalidURL", is_url_unusable=True)

    with sending() as model:
        puzzled = NoticeSender(
            Puzzled(max_body_bytes=1), Resolver(), model._tokens, allow_private=True
        )
        assert isinstance(failure(puzzled, "http://127.0.0.1/"), NoticeRefused)
        puzzled.close()


def test_both_keys_are_published_and_the_first_one_signs() -> None:
    clock = Clock()
    both = rsa_pem("second") + rsa_pem("first")
    with (
        Receiver(saying(answer())) as server,
        sending(clock=clock, notice_signing_keys=both) as after,
        sending(clock=clock) as before,
    ):
        post(before, server.url)
        post(after, server.url)

        kids = []
        for request in server.requests:
            token = token_in(request)
            verify_logout_token(
                token, after.public_keys(), issuer=ISSUER, audience="shop", now=clock.moment
            )
            kids.append(token.partition(".")[0])

    assert kids[0] != kids[1]
