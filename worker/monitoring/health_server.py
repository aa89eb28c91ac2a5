"""Our public keys and our health over HTTP, for apps and load balancers.

However many ask, and whatever hangs, neither the database nor Redis is asked more often than every
few seconds, and no request waits for them for long.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class PartHealth:
    """What is wrong with one part of the service, and what one app among several suffers from."""

    wrong: list[str]
    warnings: list[str]


@dataclass(frozen=True, slots=True)
class PageHealth:
    """The same of several parts, by their names."""

    wrong: dict[str, str]
    warnings: dict[str, str]


def sources(services: Services) -> list[Source[PartHealth]]:
    """Return what makes this installation good, a source for each part."""
    return [_source(services, part) for part in Part]


def _source(services: Services, part: Part) -> Source[PartHealth]:
    every = COUNT_EVERY_SECONDS if part is Part.DELIVERIES else ASK_EVERY_SECONDS

    def ask() -> PartHealth:
        found = health.examine(services, [part])
        return PartHealth(found.wrong[part], found.warnings[part])

    return Source(part, every, REQUEST_SECONDS, ask)


class MonitorServer(Listener):
    """Serves `/jwks.json`, `/healthz` and `/livez`. As a context manager it runs."""

    def __init__(
        self, host: str, port: int, jwks: dict[str, Any], sources: Iterable[Source[PartHealth]]
    ) -> None:
        super().__init__(host, port, self._page)
        self._jwks = jwks
        self._sources = {source.name: source for source in sources}
        self._was: dict[str, tuple[str, str]] = {}

    def health(self, *parts: str) -> PageHealth:
        """Return what is wrong with *parts*, or with any, by name; each problem once."""
        answers = {
            name: source.ask()
            for name, source in self._sources.items()
            if not parts or name in parts
        }
        wrong: dict[str, str] = {}
        warnings: dict[str, str] = {}
        for name, answer in answers.items():
            problems, of_one_app = self._look_at(name, answer)
            if problems and problems not in wrong.values():
                wrong[name] = problems
            if of_one_app:
                warnings[name] = of_one_app
        return PageHealth(wrong, warnings)

    def _look_at(self, name: str, answer: Answer[PartHealth]) -> tuple[str, str]:
        wrong, warnings = "does not answer in time", ""
        if answer.is_in_time():
            wrong = f"cannot be asked ({answer.error})"
            if (found := answer.value) is not None:
                wrong, warnings = "; ".join(found.wrong), "; ".join(found.warnings)
        now = (wrong, warnings)
        if now != self._was.get(name, ("", "")):
            log.warning("health_changed", what=name, wrong=wrong, warnings=warnings)
            self._was[name] = now
        return now

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


def _health_page(found: PageHealth) -> Page:
    content = {
        "status": "unhealthy" if found.wrong else "ok",
        "wrong": found.wrong,
        "warnings": found.warnings,
    }
    return Page("application/json", _json(content), status=503 if found.wrong else 200)


def _json(content: object) -> bytes:
    return json.dumps(content).encode() + b"\n"
