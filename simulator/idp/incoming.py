"""A call as its handler sees it, and what the handler answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.controls.faults import FaultKind, Plan
from simulator.idp.contract import Published
from simulator.idp.errors import Dialect, RefusedError, refused, refused_in
from simulator.idp.records import User
from simulator.idp.state import MosaicState

BEARER = "bearer "


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body; a body of None is no body at all, unless there is a *text*."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    text: str | None = None
    content_type: str | None = None

    def encode(self) -> bytes:
        """The body's bytes."""
        if self.text is not None:
            return self.text.encode()
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Incoming:
    """One call, read in full."""

    state: MosaicState
    published: Published
    url: str
    path: Mapping[str, str]
    authorization: str
    fields: Mapping[str, Any]
    complaints: list[str]
    plan: Plan = field(default_factory=Plan)

    def asked(self) -> Mapping[str, Any]:
        """The body's fields; 400 if they do not fit what Mosaic publishes."""
        if not self.complaints:
            return self.fields
        is_list = self.published.dialect in {Dialect.NUMBER, Dialect.BOTH}
        message = self.complaints if is_list else "; ".join(self.complaints)
        raise self.refused(400, message, self.published.malformed)

    def refused(
        self, status: int, message: str | list[str], slug: str | None = None
    ) -> RefusedError:
        """A refusal as this call's page shows it; a slug is said where the page has it."""
        known = self.published.slugs.get(status, frozenset())
        return refused_in(self.published.dialect, status, message, slug if slug in known else None)

    @property
    def bearer(self) -> str:
        """The access token the caller shows, or nothing."""
        is_bearer = self.authorization.lower().startswith(BEARER)
        return self.authorization[len(BEARER) :].strip() if is_bearer else ""

    def client_id(self) -> str:
        """The caller, by a valid client access token; 401 without one."""
        return self.state.clients.require(self.bearer)

    def user(self) -> User:
        """The caller, by a valid user access token; 401 without one."""
        claims = self.state.tokens.read_access_token(self.bearer)
        user = self.state.users.get(str(claims["sub"])) if claims else None
        if user is None:
            raise refused(401, "Unauthorized")
        return user

    def user_id(self) -> str:
        """The user the path names; 404 when Mosaic never heard of them."""
        user_id = self.path["user_id"]
        if self.state.users.get(user_id) is None:
            raise refused(404, "User not found")
        return user_id

    def spoilt_by(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind was planned for this call."""
        return self.plan.has(kind)


Handler = Callable[[Incoming], Answer]
