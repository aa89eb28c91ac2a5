"""How one of Mosaic's calls is declared, and what is held against the declaration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from simulator.idp import shapes
from simulator.idp.endpoints import Endpoint
from simulator.idp.errors import Dialect
from simulator.idp.shapes import EitherOf, Field, ListOf, Number, Shape, Text


class Caller(StrEnum):
    """Whose token a call shows."""

    CLIENT = "C"  # an app's own
    USER = "U"  # a user's access token
    ANYONE = "-"  # none: browsers call it


OAUTH_ERROR: Shape = {"error": Text(required=True), "error_description": Text()}
ERROR: Shape = {
    "message": EitherOf([Text(), ListOf(Text())], required=True),
    "error_code": EitherOf([Number(), Text()], required=True),
    "ts_error_code": Text(),
}
FIRST_ERROR = 400


@dataclass(frozen=True)
class Published:
    """What Mosaic's pages say of one call."""

    endpoint: Endpoint
    method: str
    paths: Sequence[str]
    caller: Caller
    request: Shape | None = None  # None: no body is read; a GET has it in its query
    success: int = 200
    answer: Field | None = None  # None: nothing at all
    either: Sequence[frozenset[str]] = ()  # one of these sets of fields, and one alone
    is_form: bool = False
    dialect: Dialect = Dialect.NUMBER
    malformed: str | None = None  # the slug for a body of the wrong shape
    slugs: Mapping[int, frozenset[str]] = field(default_factory=dict)  # the documented ones

    def request_complaints(self, fields: Mapping[str, object]) -> list[str]:
        """What is wrong with a request that carries these *fields*."""
        return shapes.complaints(fields, self.request or {}) + self._alternatives(fields)

    def answer_complaints(self, status: int, body: object) -> list[str]:
        """What is wrong with an answer; `None` stands for an empty body."""
        if status >= FIRST_ERROR:
            return self._error_complaints(status, body)
        if status != self.success:
            return [f"success is {self.success}, not {status}"]
        if self.answer is None:
            return [] if body is None else ["the answer must be empty"]
        return self.answer.complaints(body, "answer")

    def _alternatives(self, fields: Mapping[str, object]) -> list[str]:
        if not self.either:
            return []
        present = [names for names in self.either if not names.isdisjoint(fields)]
        ways = " or ".join("+".join(sorted(names)) for names in self.either)
        whole = len(present) == 1 and present[0] <= fields.keys()
        return [] if whole else [f"exactly {ways} is required"]

    def _error_complaints(self, status: int, body: object) -> list[str]:
        if not isinstance(body, dict):
            return ["an error must be an object"]
        shape = OAUTH_ERROR if "error" in body else ERROR
        found = shapes.complaints(body, shape)
        slug = _slug(body)
        if slug and slug not in self.slugs.get(status, frozenset()):
            found.append(f"{slug} is not documented for {status}")
        return found


def _slug(body: Mapping[str, object]) -> str | None:
    codes = [body.get("ts_error_code"), body.get("error_code")]
    return next((code for code in codes if isinstance(code, str) and not code.isdigit()), None)
