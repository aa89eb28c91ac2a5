"""A Mosaic that costs next to nothing per call: `python -m benchmarks.fake_mosaic PORT_FILE`.

A bare asyncio protocol. The answers to silent authentications are signed before the first call, a
login's when it is asked for: an ID token from before the login began is no proof of it. It checks
nothing, because the subject measured is known to ask rightly; `simulator/` is the one that checks.
Latency is a setting: an answer is written that much later.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from benchmarks import people
from sandbox.ports import HOST, free_port

TOKEN_SECONDS: Final = 24 * 3600  # longer than any run
_KID: Final = "bench"
_CLIENT_TOKEN: Final = "client-token."
_AUTHENTICATE: Final = "/cis/v1/auth/session/authenticate"
_PASSWORD: Final = "/cis/v1/auth/password/authenticate"
_LOGOUT: Final = "/cis/v1/auth/session/logout"
_NO_CONTENT: Final = b"HTTP/1.1 204 No Content\r\n\r\n"
_NOT_FOUND: Final = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"
_ACCESS_TOKEN: Final = "at." + "0123456789abcdef" * 40  # as long as a JWT


class Tokens:
    """Signs what Mosaic signs."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._answers: dict[tuple[str, str], bytes] = {}

    def sign_all(self) -> None:
        """Sign for every user who has a session, and the app that will ask for them."""
        for number in range(people.USERS):
            user = people.user_id(number)
            self.answer(people.session_id(user), people.client_id(people.app_of(number)))

    def answer(self, session: str, client: str) -> bytes:
        """Return the whole answer to a silent authentication."""
        answer = self._answers.get((session, client))
        if answer is None:
            token = self._id_token(people.user_of(session), client)
            answer = self._answers[session, client] = _signed_in(session, token)
        return answer

    def login(self, user: str, client: str, number: int) -> bytes:
        """Return the whole answer to a user's login: each opens a session of its own."""
        session = people.login_session_id(user, number)
        return _signed_in(session, self._id_token(user, client))

    def jwks(self) -> bytes:
        """Return the whole answer that shows the public key."""
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": _KID}
        return _ok({"keys": [{**key, "n": _b64int(numbers.n), "e": _b64int(numbers.e)}]})

    def _id_token(self, user: str, client: str) -> str:
        now = int(time.time())
        claims = {
            "iss": people.ISSUER,
            "sub": user,
            "tid": "bench",
            "aud": client,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
            "auth_time": now,
            "amr": ["pwd"],
            "acr": "1",
        }
        signed = f"{_b64json({'alg': 'RS256', 'kid': _KID})}.{_b64json(claims)}".encode()
        signature = self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
        return f"{signed.decode()}.{_b64(signature)}"


class State:
    """What all connections share."""

    def __init__(self) -> None:
        self.tokens = Tokens()
        self.latency_seconds = 0.0
        self.calls: Counter[str] = Counter()
        self._jwks = self.tokens.jwks()

    def answer(self, path: str, head: bytes, body: bytes) -> bytes:
        """Return the whole answer to one request."""
        if path == _AUTHENTICATE:
            self.calls["authenticate"] += 1
            client = _bearer(head).removeprefix(_CLIENT_TOKEN)
            return self.tokens.answer(json.loads(body)["session_id"], client)
        if path == _PASSWORD:
            self.calls["login"] += 1
            client = _bearer(head).removeprefix(_CLIENT_TOKEN)
            return self.tokens.login(json.loads(body)["username"], client, self.calls["login"])
        if path == _LOGOUT:
            self.calls["logout"] += 1
            return _NO_CONTENT
        if path.endswith("/oidc/token"):
            self.calls["token"] += 1
            client = parse_qs(body.decode())["client_id"][0]
            return _ok({"access_token": _CLIENT_TOKEN + client, "expires_in": 3600})
        if path.endswith("/oidc/jwks"):
            self.calls["jwks"] += 1
            return self._jwks
        return _NOT_FOUND

    def administer(self, path: str) -> bytes:
        """Serve the bench itself: ``/admin/latency/30`` and ``/admin/calls``."""
        if path.startswith("/admin/latency/"):
            self.latency_seconds = float(path.rpartition("/")[2]) / 1000
        return _ok(dict(self.calls))


class Connection(asyncio.Protocol):
    """Reads requests with a length, answers each, keeps the connection."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._read = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer each request that has come in full."""
        self._read += data
        while (end := self._read.find(b"\r\n\r\n")) >= 0:
            head = self._read[:end]
            total = end + 4 + _length(head)
            if len(self._read) < total:
                return
            body, self._read = self._read[end + 4 : total], self._read[total:]
            self._serve(head, body)

    def _serve(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1].decode("ascii")
        if path.startswith("/admin/"):
            self._transport.write(self._state.administer(path))
            return
        answer = self._state.answer(path, head, body)
        if self._state.latency_seconds:
            loop = asyncio.get_running_loop()
            loop.call_later(self._state.latency_seconds, self._transport.write, answer)
        else:
            self._transport.write(answer)


def _signed_in(session: str, id_token: str) -> bytes:
    body = {
        "access_token": _ACCESS_TOKEN,
        "token_type": "Bearer",
        "expires_in": 3600,
        "session_id": session,
        "id_token": id_token,
    }
    return _ok(body)


def _length(head: bytes) -> int:
    value = _header(head, b"content-length")
    return int(value) if value else 0


def _bearer(head: bytes) -> str:
    return _header(head, b"authorization").decode().partition(" ")[2]


def _header(head: bytes, name: bytes) -> bytes:
    start = head.lower().find(b"\r\n" + name + b":")
    return b"" if start < 0 else head[start + 2 :].split(b"\r\n", 1)[0].partition(b":")[2].strip()


def _ok(body: dict[str, Any]) -> bytes:
    text = json.dumps(body).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n"
    return head.encode() + b"\r\n" + text


def _b64(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def _b64json(value: dict[str, Any]) -> str:
    return _b64(json.dumps(value).encode())


def _b64int(value: int) -> str:
    return _b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


async def _serve(port_file: Path) -> None:
    state = State()
    state.tokens.sign_all()
    port = free_port()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(state), HOST, port)
    port_file.with_suffix(".new").write_text(f"http://{HOST}:{port}", encoding="utf-8")
    port_file.with_suffix(".new").rename(port_file)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
