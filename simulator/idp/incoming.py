"""A call as its handler sees it, and what the handler answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.controls.faults import FaultKind, Plan
from simulator.idp import shapes
from simulator.idp.errors import refused
from simulator.idp.state import MosaicState

BEARER = "bearer "


@dataclass(frozen=True)
class Answer:
    """A status and a JSON body; a body of None is no body at all."""

    status: int
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def encode(self) -> bytes:
        """The body's bytes."""
        return b"" if self.body is None else json.dumps(self.body).encode()


@dataclass(frozen=True)
class Incoming:
    """One call, read in full."""

    state: MosaicState
    url: str
    path: Mapping[str, str]
    content_type: str
    authorization: str
    body: bytes
    plan: Plan = field(default_factory=Plan)

    def json(self, shape: shapes.Shape) -> dict[str, Any]:
        """The body, which must have this *shape*."""
        return shapes.read_json(self.content_type, self.body, shape)

    def form(self) -> dict[str, str]:
        """The body's form fields."""
        return shapes.read_form(self.content_type, self.body)

    @property
    def bearer(self) -> str:
        """The access token the caller shows, or nothing."""
        is_bearer = self.authorization.lower().startswith(BEARER)
        return self.authorization[len(BEARER) :].strip() if is_bearer else ""

    def client_id(self) -> str:
        """The caller, by a valid client access token; 401 without one."""
        return self.state.clients.require(self.bearer)

    def user_id(self) -> str:
        """The user the path names; 404 when Mosaic never heard of them."""
        user_id = self.path["user_id"]
        if user_id not in self.state.users:
            raise refused(404, "User not found")
        return user_id

    def spoilt_by(self, kind: FaultKind) -> bool:
        """Whether a fault of this kind was planned for this call."""
        return self.plan.has(kind)


Handler = Callable[[Incoming], Answer]
