"""One request to the frameworks' core, with a worker that answers as the test says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from session_client.values import Authenticated, Tokens
from session_client.web import Incoming, MemoryMarks, Options, run
from session_client.web.local import Local, digest_of
from session_client.web.outcome import Steps

NOW = 1_000_000.0
TOKEN = "msb1_" + "A" * 43
OTHER_TOKEN = "msb1_" + "B" * 43
TOKENS = Tokens(access_token="t", token_type="bearer", expires_in=60)


class Worker:
    """A client whose calls give what was planned for them, and are remembered."""

    def __init__(self, **plans: Any) -> None:
        self.plans = plans
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, call: str) -> Any:
        def answer(**arguments: Any) -> Any:
            self.calls.append((call, arguments))
            planned = self.plans[call]
            planned = planned(arguments) if callable(planned) else planned
            if isinstance(planned, Exception):
                raise planned
            return planned

        return answer

    @property
    def asked(self) -> list[str]:
        return [call for call, _ in self.calls]


@dataclass
class Rig:
    """The app's side: its options and the worker."""

    worker: Worker = field(default_factory=Worker)
    options: Options = field(default_factory=lambda: Options(marks=MemoryMarks()))

    def run(self, steps: Steps[Any]) -> Any:
        return run(steps, self.worker, self.options)


def authenticated(user_id: str = "ada", session_ref: str = "ref-1", **more: Any) -> Authenticated:
    given: dict[str, Any] = {"amr": ("pwd",), "auth_age": 10.0, "expires_in": 10_000.0}
    return Authenticated(user_id=user_id, session_ref=session_ref, tokens=TOKENS, **given | more)


def local(user_id: str = "ada", session_ref: str = "ref-1", **more: Any) -> Local:
    given: dict[str, Any] = {
        "amr": ("pwd",),
        "authenticated_at": NOW - 100,
        "checked_at": NOW - 10,
        "renew_at": NOW + 5_000,
        "browser": digest_of(TOKEN),
    }
    return Local(user_id=user_id, session_ref=session_ref, **given | more)


def page(path: str = "/basket?page=2", **more: Any) -> Incoming:
    return request(path, {"Sec-Fetch-Dest": "document", "Sec-Fetch-Site": "none"}, **more)


def form(path: str = "/basket", **more: Any) -> Incoming:
    headers = {
        "Sec-Fetch-Dest": "document",
        "Sec-Fetch-Site": "same-origin",
        "Referer": "https://shop.example/basket?page=2",
    }
    return request(path, headers, method="POST", **more)


def call(path: str = "/api/basket", **more: Any) -> Incoming:
    return request(path, {"Sec-Fetch-Dest": "empty", "Sec-Fetch-Site": "same-origin"}, **more)


def request(
    path: str,
    headers: dict[str, str],
    *,
    method: str = "GET",
    token: str | None = TOKEN,
    cookies: str = "",
) -> Incoming:
    pairs = [f"__Host-mosaic-sso={token}"] if token else []
    pairs += [cookies] if cookies else []
    sent = {name.lower(): value for name, value in headers.items()}
    if pairs:
        sent["cookie"] = "; ".join(pairs)
    return Incoming(
        method=method,
        path=path,
        host="shop.example",
        header=lambda name: sent.get(name.lower()),
        cookies=sent.get("cookie"),
    )
