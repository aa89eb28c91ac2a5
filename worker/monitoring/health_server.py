"""Our public keys and our health over HTTP, for apps and load balancers.

However many ask, and whatever hangs, neither the database nor Redis is asked more often than every
few seconds, and no request waits for them for long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

import structlog

from worker.monitoring.http_server import REQUEST_SECONDS, Listener, Page
from worker.monitoring.sources import Answer, Source
from worker.operations import health
from worker.operations.health import PROCESSES, Part
from worker.wiring import Services

log = structlog.get_logger()

ASK_EVERY_SECONDS: Final = 2.0
COUNT_EVERY_SECONDS: Final = 15.0  # what counts rows
JWKS_MAX_AGE_SECONDS: Final = 300

Problems = list[str]


def sources(services: Services) -> list[Source[Problems]]:
    """Return what makes this installation good, a source for each part."""
    return [_source(services, part) for part in Part]


def _source(services: Services, part: Part) -> Source[Problems]:
    every = COUNT_EVERY_SECONDS if part is Part.DELIVERIES else ASK_EVERY_SECONDS
    return Source(
        part, every, REQUEST_SECONDS, lambda: health.examine(services, [part]).wrong[part]
    )


class MonitorServer(Listener):
    """Serves `/jwks.json`, `/healthz` and `/livez`. As a context manager it runs."""

    def __init__(
        self, host: str, port: int, jwks: dict[str, Any], asked: Iterable[Source[Problems]]
    ) -> None:
        super().__init__(host, port, self._page)
        self._jwks = jwks
        self._sources = {source.name: source for source in asked}
        self._was_wrong: dict[str, str] = {}

    def health(self, *parts: str) -> dict[str, str]:
        """Return what is wrong with *parts*, or with any, by name; each problem once."""
        asked = {
            name: source.ask()
            for name, source in self._sources.items()
            if not parts or name in parts
        }
        found: dict[str, str] = {}
        for name, answer in asked.items():
            wrong = self._wrong_with(name, answer)
            if wrong and wrong not in found.values():
                found[name] = wrong
        return found

    def _wrong_with(self, name: str, answer: Answer[Problems]) -> str:
        wrong = "does not answer in time"
        if answer.is_in_time():
            problems = answer.value
            wrong = f"cannot be asked ({answer.error})" if problems is None else "; ".join(problems)
        if wrong != self._was_wrong.get(name, ""):
            log.warning("health_changed", what=name, wrong=wrong)
            self._was_wrong[name] = wrong
        return wrong

    def _page(self, path: str) -> Page | None:
        match path:
            case "/jwks.json":
                cache = f"public, max-age={JWKS_MAX_AGE_SECONDS}"
                return Page("application/jwk-set+json", _json(self._jwks), cache=cache)
            case "/healthz":
                return _health_page(self.health())
            case "/livez":
                return _health_page(self.health(*PROCESSES))
            case _:
                return None


def _health_page(wrong: dict[str, str]) -> Page:
    found = {"status": "unhealthy" if wrong else "ok", "wrong": wrong}
    return Page("application/json", _json(found), status=503 if wrong else 200)


def _json(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"
