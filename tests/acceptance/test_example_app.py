"""The examples do what they say: a logout at another app ends their local sessions."""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from sandbox.ports import free_port
from sandbox.processes import poll_until
from sandbox.stack import Stack
from session_client import Authenticated
from tests.acceptance.client_rig import TAKE_NOTICES, Apps, running, working
from worker.backchannel.logout_tokens import LogoutTokens

ISSUER = "https://sessions.example.com"
PATIENT = 60.0


@dataclass
class Signing:
    """The worker's signing key in a file, and where its public part is served."""

    pem_file: Path
    jwks_url: str


@pytest.fixture(scope="module")
def signing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signing]:
    key = rsa.generate_private_key(65537, 2048)
    pem_file = tmp_path_factory.mktemp("signing") / "key.pem"
    pem_file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    keys = LogoutTokens(ISSUER, [key], lambda: datetime.now(UTC)).public_keys()
    with serving({"keys": keys}) as url:
        yield Signing(pem_file, url)


@contextmanager
def serving(content: dict[str, Any]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/jwks"
        server.shutdown()


def test_a_logout_elsewhere_ends_the_local_sessions_of_both_examples(
    signing: Signing, tmp_path: Path
) -> None:
    port = free_port()
    web_url = f"http://127.0.0.1:{port}"
    database = tmp_path / "desk.db"
    with closing(sqlite3.connect(database)) as sessions, sessions:
        sessions.execute("CREATE TABLE sessions (session_ref TEXT PRIMARY KEY)")

    def desk_sessions() -> set[str]:
        with closing(sqlite3.connect(database)) as sessions:
            return {ref for (ref,) in sessions.execute("SELECT session_ref FROM sessions")}

    settings = {
        "notice_issuer": ISSUER,
        "notice_signing_keys_file": signing.pem_file,
        "notice_private_addresses": "true",
        "notice_timeout_seconds": 15,  # within which an example fetches our keys, too
    }
    with Stack(settings=settings) as stack:
        stack.migrate()
        stack.beat()
        apps = Apps(stack, "shop")
        for app_id, notice in {
            "web": ("--notice-url", f"{web_url}/backchannel-logout"),
            "desk": ("--notice-queue", "desk-notices"),
        }.items():
            apps.keys[app_id] = stack.add_app(app_id, *notice)
            apps.clients[app_id] = apps.client(app_id)
        with (
            working(stack),
            running(
                "web", tmp_path,
                "uvicorn", "examples.backchannel_app:app", "--port", str(port),
                SESSION_BROKER_URL=stack.broker_url, SESSION_APP_ID="web",
                SESSION_APP_KEY=apps.keys["web"],
            ) as web,
            running(
                "desk", tmp_path,
                *TAKE_NOTICES,
                SESSION_BROKER_URL=stack.broker_url, SESSION_APP_ID="desk",
                SESSION_APP_KEY=apps.keys["desk"], SESSIONS_DB=str(database),
            ) as desk,
        ):  # fmt: skip
            web.wait_for_line("Uvicorn running", timeout=90)
            desk.wait_for_line("ready.", timeout=90)
            refs = {}
            for user in ("ada", "bob"):
                refs[user] = str(apps.register(user).session_ref)
                for app_id in ("web", "desk"):
                    answer = apps.clients[app_id].silent_auth(user_id=user, timeout=20)
                    assert isinstance(answer, Authenticated), answer
                signed_in = httpx.post(f"{web_url}/sign-in/{user}/{refs[user]}", timeout=PATIENT)
                signed_in.raise_for_status()
                with closing(sqlite3.connect(database)) as sessions, sessions:
                    sessions.execute("INSERT INTO sessions VALUES (?)", (refs[user],))

            forged = httpx.post(
                f"{web_url}/backchannel-logout", data={"logout_token": "a.b.c"}, timeout=PATIENT
            )
            assert forged.status_code == 400

            receipt = apps.clients["shop"].logout(
                user_id="ada", session_ref=refs["ada"], wait="all", timeout=PATIENT
            )

            assert receipt.apps_confirmed == ("desk", "web"), receipt
            found = httpx.get(f"{web_url}/who-is-in", timeout=PATIENT)
            assert found.json() == {refs["bob"]: "bob"}
            poll_until(lambda: desk_sessions() == {refs["bob"]}, 60)
        apps.close()
