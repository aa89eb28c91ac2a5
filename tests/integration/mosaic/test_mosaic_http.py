"""HTTP at its worst: slow, endless, compressed, cut, nosy."""

from __future__ import annotations

import gzip
import socket
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import httpcore
import pytest

from tests.certificates import make_certificate, server_context
from tests.integration.mosaic.mosaic_rig import RawServer
from worker.errors import MosaicTimedOut, MosaicUnavailable
from worker.http_client import bounded_transport as http_module
from worker.mosaic.asked import Endpoint
from worker.mosaic.deadline import Deadline
from worker.mosaic.http_calls import MAX_BODY_BYTES, MosaicHttp


@pytest.fixture
def http() -> Iterator[MosaicHttp]:
    http = MosaicHttp()
    yield http
    http.close()


def saying(text: str | bytes) -> Callable[[socket.socket], None]:
    content = text.encode() if isinstance(text, str) else text
    return lambda connection: connection.sendall(content)


def answer(*headers: str, status: str = "200 OK", body: str = "{}") -> str:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines) + f"\r\n\r\n{body}"


def soon() -> Deadline:
    return Deadline.after(5)


def test_no_cookie_crosses_from_one_call_to_the_next(http: MosaicHttp) -> None:
    reply = answer("Set-Cookie: user=ada; Path=/", "Set-Cookie: other=1; Domain=127.0.0.1")
    with RawServer(saying(reply)) as server:
        for _ in range(3):
            http.post_json(Endpoint.LOGOUT, server.url, {"session_id": "s"}, "token", soon())

    assert len(server.requests) == 3
    assert not any(b"cookie" in request.lower() for request in server.requests)


def test_a_redirect_is_not_followed(http: MosaicHttp) -> None:
    with RawServer(saying(answer("Location: /elsewhere", status="307 Temporary"))) as server:
        assert http.post_json(Endpoint.LOGOUT, server.url, {}, "token", soon()).status == 307

    assert len(server.requests) == 1


def test_proxy_variables_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    http = MosaicHttp()
    try:
        with RawServer(saying(answer())) as server:
            assert http.get(Endpoint.JWKS, server.url, soon()).status == 200
    finally:
        http.close()


def test_no_compression_is_asked_for(http: MosaicHttp) -> None:
    with RawServer(saying(answer())) as server:
        http.get(Endpoint.JWKS, server.url, soon())

    assert b"accept-encoding: identity" in server.requests[0].lower()


def packed(encoding: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nContent-Encoding: {encoding}"
    return head.encode() + b"\r\nConnection: close\r\n\r\n" + body


def _packed(body: bytes) -> bytes:
    """Pack it, to the same bytes whenever: they name the test."""
    return gzip.compress(body, mtime=0)


@pytest.mark.parametrize(
    ("encoding", "body", "expected"),
    [
        ("gzip", _packed(b"{}"), b"{}"),
        ("X-GZIP", _packed(b"{}"), b"{}"),
        ("identity", b"{}", b"{}"),
        ("gzip", b"", b""),
        ("gzip", _packed(b"x" * MAX_BODY_BYTES), b"x" * MAX_BODY_BYTES),
        ("gzip", _packed(b"x" * (MAX_BODY_BYTES + 1)), None),
        ("gzip", _packed(b"{}")[:-1], None),
        ("gzip", b"not gzip", None),
        ("br", b"{}", None),
        ("gzip, gzip", _packed(_packed(b"{}")), None),
    ],
)
def test_gzip_that_nobody_asked_for_is_unpacked_as_far_as_a_plain_body_may_go(
    http: MosaicHttp, encoding: str, body: bytes, expected: bytes | None
) -> None:
    with RawServer(saying(packed(encoding, body))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).body == expected


def test_a_body_that_would_unpack_to_a_gigabyte_costs_no_more_than_any_other(
    http: MosaicHttp,
) -> None:
    zeros = zlib.compressobj(wbits=31)
    bomb = b"".join(zeros.compress(bytes(2**20)) for _ in range(512)) + zeros.flush()
    assert len(bomb) < MAX_BODY_BYTES
    tracemalloc.start()
    try:
        with RawServer(saying(packed("gzip", bomb))) as server:
            assert http.get(Endpoint.JWKS, server.url, soon()).body is None
        assert tracemalloc.get_traced_memory()[1] < 8 * MAX_BODY_BYTES
    finally:
        tracemalloc.stop()


def test_an_endless_body_is_not_read_to_its_end(http: MosaicHttp) -> None:
    def never_stop(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 500 Oops\r\nConnection: close\r\n\r\n")
        while True:
            connection.sendall(b"x" * 65536)

    with RawServer(never_stop) as server:
        found = http.get(Endpoint.JWKS, server.url, soon())

    assert (found.status, found.body) == (500, None)


def test_a_body_of_just_the_allowed_size_is_read(http: MosaicHttp) -> None:
    with RawServer(saying(answer(body="x" * MAX_BODY_BYTES))) as server:
        assert len(http.get(Endpoint.JWKS, server.url, soon()).body or b"") == MAX_BODY_BYTES


DRIPPED = {
    "headers": b"HTTP/1.1 200 OK\r\nX-Slow: " + b"x" * 1000,
    "body": answer(body="x" * 1000).encode(),
}


@pytest.mark.parametrize("where", DRIPPED)
def test_an_answer_that_drips_is_given_up_at_the_deadline(http: MosaicHttp, where: str) -> None:
    content = DRIPPED[where]

    def drip(connection: socket.socket) -> None:
        connection.sendall(content[:30])
        for number in range(30, len(content)):
            time.sleep(0.05)
            connection.sendall(content[number : number + 1])

    with RawServer(drip) as server:
        started_at = time.monotonic()
        with pytest.raises(MosaicTimedOut, match="Timeout"):
            http.get(Endpoint.JWKS, server.url, Deadline.after(0.4))
        elapsed = time.monotonic() - started_at

    assert elapsed < 5  # the whole of it takes 48


def test_an_answer_that_stalls_late_is_given_up_at_the_deadline(http: MosaicHttp) -> None:
    def stall(connection: socket.socket) -> None:
        time.sleep(5)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        connection.recv(1)  # until the other side gives up

    with RawServer(stall) as server:
        started_at = time.monotonic()
        with pytest.raises(MosaicTimedOut, match="Timeout"):
            http.get(Endpoint.JWKS, server.url, Deadline.after(5.5))
        elapsed = time.monotonic() - started_at

    assert elapsed < 10  # and not 5 + 5.5


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        answer()[:-1],
        "nonsense\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_whole_answer_is_no_answer(http: MosaicHttp, reply: str | bytes) -> None:
    with RawServer(saying(reply)) as server, pytest.raises(MosaicUnavailable) as caught:
        http.get(Endpoint.JWKS, server.url, soon())

    assert caught.value.__context__ is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("17", 17.0),
        ("0", 0.0),
        ("9" * 400, 3600.0),
        ("-5", None),
        ("7.5", 7.5),
        ("7, 12.5", 12.5),
        ("1e3", None),
        ("7 seconds", None),
        ("soon", None),
        ("", None),
        ("Mon, 99 Foo 2026 00:00:00 GMT", None),
    ],
)
def test_retry_after_in_seconds(http: MosaicHttp, value: str, expected: float | None) -> None:
    with RawServer(saying(answer(f"Retry-After: {value}", status="429 Slow"))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).retry_after == expected


@pytest.mark.parametrize(
    ("values", "expected"), [(("7", "30", ""), 30.0), (("soon", "7"), 7.0), (("", "x"), None)]
)
def test_of_several_the_longest_that_can_be_read_counts(
    http: MosaicHttp, values: tuple[str, ...], expected: float | None
) -> None:
    headers = [f"Retry-After: {value}" for value in values]
    with RawServer(saying(answer(*headers, status="429 Slow"))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).retry_after == expected


@pytest.mark.parametrize(
    ("declared", "charset"),
    [
        ("application/json", None),
        ("application/json; charset=UTF-8", "utf-8"),
        ('application/json;x=1; Charset = "iso-8859-1"', "iso-8859-1"),
    ],
)
def test_a_declared_charset_is_passed_on(
    http: MosaicHttp, declared: str, charset: str | None
) -> None:
    with RawServer(saying(answer(f"Content-Type: {declared}"))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).charset == charset


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(days=400)])
def test_a_retry_after_date_is_measured_by_the_senders_clock(
    http: MosaicHttp, ahead: timedelta
) -> None:
    sent_at = datetime.now(UTC) + ahead
    headers = (
        f"Date: {format_datetime(sent_at, usegmt=True)}",
        f"Retry-After: {format_datetime(sent_at + timedelta(seconds=90), usegmt=True)}",
    )
    with RawServer(saying(answer(*headers, status="503 Later"))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).retry_after == 90.0


def test_a_retry_after_date_without_a_date_is_measured_by_ours(http: MosaicHttp) -> None:
    later = datetime.now(UTC) + timedelta(seconds=90)
    past = "Mon, 01 Jan 2024 00:00:00 -0000"
    with RawServer(saying(answer(f"Retry-After: {format_datetime(later)}"))) as server:
        assert 85 < (http.get(Endpoint.JWKS, server.url, soon()).retry_after or 0) <= 90
    with RawServer(saying(answer(f"Retry-After: {past}"))) as server:
        assert http.get(Endpoint.JWKS, server.url, soon()).retry_after == 0.0


def test_nothing_is_read_or_written_past_the_deadline() -> None:
    marker = http_module._deadline.set(Deadline.after(0))
    try:
        with pytest.raises(httpcore.ReadTimeout):
            http_module._bounded(None)
    finally:
        http_module._deadline.reset(marker)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path, "127.0.0.1")


def over_tls(certificate: Path, reply: str) -> Callable[[socket.socket], None]:
    context = server_context(certificate)

    def talk(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            secured.recv(65536)
            secured.sendall(reply.encode())

    return talk


def test_a_server_without_a_trusted_certificate_is_not_talked_to(
    http: MosaicHttp, certificate: Path
) -> None:
    with (
        RawServer(over_tls(certificate, answer()), reads_first=False) as server,
        pytest.raises(MosaicUnavailable, match="ConnectError"),
    ):
        http.get(Endpoint.JWKS, server.url.replace("http:", "https:"), soon())


def test_a_server_whose_authority_an_operator_trusts_is_talked_to(certificate: Path) -> None:
    http = MosaicHttp(certificate.read_text(encoding="ascii"))
    try:
        with RawServer(over_tls(certificate, answer()), reads_first=False) as server:
            assert (
                http.get(Endpoint.JWKS, server.url.replace("http:", "https:"), soon()).status == 200
            )
    finally:
        http.close()
