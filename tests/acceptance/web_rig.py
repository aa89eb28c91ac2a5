"""Browsers, and the three apps of `examples/web` in this process, on a real worker."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sandbox import notice_keys
from sandbox.processes import ManagedProcess
from sandbox.stack import Stack
from tests import django_site
from tests.asgi import AsgiTransport

DOMAIN: Final = "apps.example.com"
HOSTS: Final = {app: f"{app}.{DOMAIN}" for app in ("shop", "forum", "bank")}
PASSWORD: Final = "a password"
PATIENT: Final = 30.0


def host_of(app: str) -> str:
    return HOSTS.get(app, f"{app}.{DOMAIN}")


class WebApps:
    """Shop, forum and bank, as their users meet them."""

    def __init__(self, stack: Stack, transports: dict[str, httpx.BaseTransport]) -> None:
        self.stack = stack
        self.worker: ManagedProcess
        self.keys: dict[str, str] = {}
        self._mounts = {f"https://{host_of(app)}": found for app, found in transports.items()}

    def add(self, app: str, transport: httpx.BaseTransport) -> None:
        """Have one more app, at a host of its own."""
        self._mounts[f"https://{app}.{DOMAIN}"] = transport

    def browser(self) -> Browser:
        return Browser(httpx.Client(mounts=self._mounts, timeout=PATIENT))

    def code_for(self, user_id: str) -> str:
        return str(self.stack.mosaic.outbox.sent(user_id)[-1].code)


class Browser:
    """One browser: a jar of cookies, and the headers with which browsers say what they do."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def open(self, app: str, path: str = "/", *, follow: bool = True) -> httpx.Response:
        """Load a page."""
        headers = {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none", "Accept": "text/html"}
        return self.client.get(
            f"https://{host_of(app)}{path}", headers=headers, follow_redirects=follow
        )

    def send(
        self, app: str, path: str, fields: dict[str, str] | None = None, **headers: str
    ) -> httpx.Response:
        """Send a form of a page at *path*."""
        fields = dict(fields or {})
        host = host_of(app)
        if app == "bank":  # Django's own protection stays on
            if not self.client.cookies.get("csrftoken", domain=host):
                self.open(app, "/login")
            fields["csrfmiddlewaretoken"] = str(self.client.cookies.get("csrftoken", domain=host))
        sent = {
            "Sec-Fetch-Dest": "document",
            "Sec-Fetch-Site": "same-origin",
            "Origin": f"https://{host}",
            "Referer": f"https://{host}{path}",
        }
        renamed = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.post(f"https://{host}{path}", data=fields, headers=sent | renamed)

    def call(
        self, app: str, method: str, path: str, json: Any = None, **more: str
    ) -> httpx.Response:
        """Have a page's script call its app."""
        headers = {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin", **more}
        return self.client.request(
            method, f"https://{host_of(app)}{path}", headers=headers, json=json
        )

    def sign_in(self, user_id: str, app: str = "shop") -> None:
        answer = self.send(app, "/login", {"user": user_id, "password": PASSWORD})
        assert answer.status_code == 303, answer.text

    def is_in(self, app: str) -> bool:
        return self.open(app, follow=False).status_code == 200

    def who_is_in(self, app: str) -> str | None:
        """Whose page it is; None for no page of anybody's."""
        page = self.open(app, follow=False)
        if page.status_code != 200:
            return None
        if app == "forum":
            return str(self.call(app, "GET", "/me").json()["user"])
        found = re.search(r"<h1>(?:Basket|Account) of (\w+)</h1>", page.text)
        assert found is not None, page.text
        return found[1]

    @property
    def token(self) -> str | None:
        return self.client.cookies.get("__Secure-mosaic-sso")

    def local_cookies(self) -> dict[str, str]:
        """What its apps' own sessions are kept in."""
        return {
            f"{cookie.domain} {cookie.name}": str(cookie.value)
            for cookie in self.client.cookies.jar
            if "mosaic" not in cookie.name
        }


@contextmanager
def web_apps(folder: Path) -> Iterator[WebApps]:
    """Start the worker and load the three apps."""
    pem = folder / "notices.pem"
    pem.write_text(notice_keys.new_pem(), encoding="utf-8")
    settings = {
        "notice_issuer": "https://sessions.example.com",
        "notice_signing_keys_file": pem,
        "notice_private_addresses": "true",
    }
    transports: dict[str, httpx.BaseTransport] = {}
    keys: dict[str, str] = {}
    with ExitStack() as exits:
        stack = exits.enter_context(Stack(settings=settings))
        patch = exits.enter_context(pytest.MonkeyPatch.context())
        postman = exits.enter_context(_postman(transports))
        stack.migrate()
        patch.setenv("SESSION_BROKER_URL", stack.broker_url)
        patch.setenv("FLASK_SECRET_KEY", "s" * 32)
        patch.setenv("FLASK_DOMAIN", DOMAIN)
        patch.setenv("FORUM_DOMAIN", DOMAIN)
        patch.setenv("FORUM_SECRET", "f" * 32)
        for app in HOSTS:
            more = ["--transfer-url", f"https://spoke.{DOMAIN}/transfer", "--tickets-from", "shop"]
            notices = f"{postman}/{app}/logout-notice"
            words = ("--methods", "password,otp,webauthn", "--notice-url", notices)
            # Before the worker starts, which sees a change within seconds and not at once.
            key = stack.add_app(app, *words, *(more if app == "forum" else ()))
            keys[app] = key
            patch.setenv("SESSION_APP_ID", app)
            patch.setenv("SESSION_MARKS_URL", stack.redis.url(1 + len(transports)))
            patch.setenv("SESSION_APP_KEY", key)
            transports[app] = _load(app)
            exits.callback(getattr(transports[app], "stop", lambda: None))
        apps = WebApps(stack, transports)
        apps.keys = keys
        apps.worker = stack.worker()
        yield apps


def _load(app: str) -> httpx.BaseTransport:
    if app == "bank":
        return httpx.WSGITransport(app=django_site.bank())
    module = _module(f"examples.web.{app}")
    return AsgiTransport(module.app) if app == "forum" else httpx.WSGITransport(app=module.app)


def _module(name: str) -> ModuleType:
    sys.modules.pop(name, None) if name.startswith("examples.") else None
    return importlib.import_module(name)


@contextmanager
def _postman(transports: dict[str, httpx.BaseTransport]) -> Iterator[str]:
    """Bring the worker's notices, sent to ``/<app>/…``, to the apps."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            _, app, path = urlsplit(self.path).path.split("/", 2)
            body = self.rfile.read(int(self.headers["Content-Length"]))
            headers = {"Content-Type": self.headers["Content-Type"]}
            assert parse_qs(body.decode())["logout_token"]
            with httpx.Client(transport=transports[app]) as client:
                answer = client.post(
                    f"https://{host_of(app)}/{path}", content=body, headers=headers
                )
            self.send_response(answer.status_code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
