"""What deliveries of notices need around them: keys, certificates, a clock, a strict receiver."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.certificates import server_context
from tests.integration.mosaic.mosaic_rig import RawServer
from worker.backchannel import NoticeSender, build_notice_sender
from worker.http_client import Resolve
from worker.settings.model import Settings

ISSUER = "https://sessions.example.com"
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
_KEY = base64.b64encode(b"k" * 32).decode()
_PEM = serialization.Encoding.PEM
_PKCS8 = serialization.PrivateFormat.PKCS8


@lru_cache
def rsa_pem(name: str, bits: int = 2048) -> str:
    """One RSA key in PEM for each *name*."""
    return pem_of(rsa.generate_private_key(65537, bits))


def pem_of(
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey,
    encryption: serialization.KeySerializationEncryption | None = None,
) -> str:
    encryption = encryption or serialization.NoEncryption()
    return key.private_bytes(_PEM, _PKCS8, encryption).decode()


def make_settings(**changes: Any) -> Settings:
    values = {
        "encryption_keys": f"k1:{_KEY}",
        "lookup_key": _KEY,
        "notice_issuer": ISSUER,
        "notice_signing_keys": rsa_pem("first"),
        "notice_private_addresses": True,
    }
    return Settings.model_validate(values | changes)


@dataclass
class Clock:
    moment: datetime = NOW

    def now(self) -> datetime:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@contextmanager
def sending(
    resolve: Resolve | None = None, clock: Clock | None = None, **settings: Any
) -> Iterator[NoticeSender]:
    """A sender as a worker makes it, but with *resolve* in place of the system's resolver."""
    now = (clock or Clock()).now
    sender = build_notice_sender(make_settings(**settings), now, resolve or unknown)
    try:
        yield sender
    finally:
        sender.close()


def post(sender: NoticeSender, url: str, **changes: Any) -> None:
    values: dict[str, Any] = {
        "audience": "shop",
        "user_id": "ada",
        "session_ref": "ref-1",
        "notice_id": "notice-1",
        "timeout_seconds": 5.0,
    }
    sender.post_logout_token(url=url, **(values | changes))


def unknown(host: str) -> Sequence[str]:
    raise socket.gaierror(socket.EAI_NONAME, f"Name or service not known: {host}")


@dataclass
class Names:
    """A resolver that gives each of its answers once, the last one for ever, and counts."""

    answers: list[Sequence[str]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


# --- the receiver's side


class Receiver(RawServer):
    """A server that reads each request to its end before it answers; keeps them all."""

    def __init__(self, talk: Callable[[socket.socket], None]) -> None:
        def read_then_talk(connection: socket.socket) -> None:
            self.requests.append(read_request(connection))
            talk(connection)

        super().__init__(read_then_talk, reads_first=False)


def read_request(connection: socket.socket) -> bytes:
    """Read one request to its end: closing with unread bytes would reset the connection."""
    request = b""
    while True:
        head, end, body = request.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: (\d+)", head)
        if end and length and len(body) >= int(length[1]):
            return request
        chunk = connection.recv(65536)
        if not chunk:
            return request
        request += chunk


def saying(text: str | bytes) -> Callable[[socket.socket], None]:
    content = text.encode() if isinstance(text, str) else text
    return lambda connection: connection.sendall(content)


def answer(status: str = "200 OK", *headers: str, body: str = "") -> str:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(lines) + f"\r\n\r\n{body}"


def token_in(request: bytes) -> str:
    """The logout token of a request, which must be a form with this one field."""
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST ")
    assert b"content-type: application/x-www-form-urlencoded" in head.lower().split(b"\r\n")
    form = parse_qs(body.decode("ascii"), strict_parsing=True)
    assert form.keys() == {"logout_token"}
    (token,) = form["logout_token"]
    return token


def verify_logout_token(
    token: str, jwks: dict[str, Any], *, issuer: str, audience: str, now: datetime
) -> dict[str, Any]:
    """Validate as OpenID Connect Back-Channel Logout 1.0 section 2.6 asks of a receiver.

    Written from that text and RFC 7515, with none of the product's code; returns the claims.
    """
    header_part, claims_part, signature_part = token.split(".")  # a JWE would have five parts
    header, claims = _json(header_part), _json(claims_part)
    assert header["alg"] == "RS256"
    assert header["typ"] == "logout+jwt"
    assert "crit" not in header
    (key,) = [key for key in jwks["keys"] if key["kid"] == header["kid"]]
    assert (key["kty"], key["use"], key["alg"]) == ("RSA", "sig", "RS256")
    assert header["kid"] == thumbprint(key)
    numbers = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"]))
    numbers.public_key().verify(  # raises InvalidSignature
        _bytes(signature_part),
        f"{header_part}.{claims_part}".encode(),
        padding.PKCS1v15(),
        hashes.SHA256(),
    )
    assert claims["iss"] == issuer
    assert claims["aud"] == audience
    assert type(claims["iat"]) is type(claims["exp"]) is int
    assert claims["iat"] <= now.timestamp() < claims["exp"] <= claims["iat"] + 120
    assert isinstance(claims["jti"], str)
    assert claims["jti"]
    assert claims["events"] == {"http://schemas.openid.net/event/backchannel-logout": {}}
    assert claims.get("sub") or claims.get("sid")
    assert "nonce" not in claims
    return claims


def thumbprint(key: dict[str, Any]) -> str:
    """RFC 7638: the SHA-256 of the required members, in order, without white space."""
    text = json.dumps({name: key[name] for name in ("e", "kty", "n")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def _bytes(part: str) -> bytes:
    assert "=" not in part
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _number(part: str) -> int:
    return int.from_bytes(_bytes(part), "big")


def _json(part: str) -> dict[str, Any]:
    def refuse_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    found = json.loads(_bytes(part), object_pairs_hook=refuse_doubles)
    assert isinstance(found, dict)
    return found


# --- TLS


@dataclass
class TlsTalk:
    """A server's side of one TLS connection; keeps the name it was asked for and the request."""

    certificate: Path
    reply: str = field(default_factory=answer)
    names: list[str | None] = field(default_factory=list)
    requests: list[bytes] = field(default_factory=list)

    def __call__(self, connection: socket.socket) -> None:
        context = server_context(self.certificate)
        context.sni_callback = lambda _, name, __: self.names.append(name)
        with context.wrap_socket(connection, server_side=True) as secured:
            self.requests.append(read_request(secured))
            secured.sendall(self.reply.encode())
