"""Everything that can go wrong with a call, on demand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Lock
from typing import Any, TypedDict, Unpack

from simulator.idp.endpoints import Endpoint

EVERY_ENDPOINT = "*"


class FaultKind(StrEnum):
    """One way to fail."""

    LATENCY = "latency"  # wait `seconds`, then work as usual
    STATUS = "status"  # answer `status` without doing the work, with `body` or `text` if given
    RATE_LIMITED = "rate_limited"  # 429, with `retry_after` when given
    DROP_REQUEST = "drop_request"  # hang up before doing the work
    DROP_ANSWER = "drop_answer"  # do the work, then hang up
    CUT_BODY = "cut_body"  # do the work, hang up in the middle of the answer
    INVALID_JSON = "invalid_json"  # do the work, answer half a JSON document
    CHANGE_ANSWER = "change_answer"  # do the work, answer with `changes` and `without` some fields
    CHANGE_CLAIMS = "change_claims"  # the same, of the id token's claims

    ROTATE_SESSION_ID = "rotate_session_id"  # the old id stays valid as an alias
    MISSING_ID_TOKEN = "missing_id_token"
    WRONG_SIGNATURE = "wrong_signature"  # a known kid, signed by another key
    UNKNOWN_KID = "unknown_kid"
    WRONG_SUB = "wrong_sub"
    WRONG_AUD = "wrong_aud"
    WRONG_ISS = "wrong_iss"
    EXPIRED = "expired"
    ALG_NONE = "alg_none"
    HS256_PUBLIC_KEY = "hs256_public_key"  # an HMAC whose secret is the public key's PEM


FORGERIES = frozenset(
    {
        FaultKind.WRONG_SIGNATURE,
        FaultKind.UNKNOWN_KID,
        FaultKind.WRONG_SUB,
        FaultKind.WRONG_AUD,
        FaultKind.WRONG_ISS,
        FaultKind.EXPIRED,
        FaultKind.ALG_NONE,
        FaultKind.HS256_PUBLIC_KEY,
    }
)


class FaultDetails(TypedDict, total=False):
    """What may be said about a fault besides its endpoint and kind."""

    client_id: str | None  # None: every client
    mentioning: str | None  # only calls whose body says this: a session id, a resource
    times: int | None  # how many calls it spoils; None: until cleared
    seconds: float
    status: int | None
    message: str | list[str]
    error_code: int | str | None
    retry_after: float | str | None  # seconds or an HTTP date
    body: object  # instead of Mosaic's envelope: any JSON
    text: str | None  # instead of JSON: a page, as a gateway sends it
    content_type: str | None  # of such a page
    headers: Mapping[str, str]
    changes: Mapping[str, Any]
    without: Sequence[str]


@dataclass
class Fault:
    """One planned failure."""

    endpoint: str
    kind: FaultKind
    client_id: str | None = None
    mentioning: str | None = None
    times: int | None = None
    seconds: float = 0.0
    status: int | None = None  # None: 500, or the status of the work
    message: str | list[str] = "Simulated fault"
    error_code: int | str | None = None
    retry_after: float | str | None = None
    body: object = None
    text: str | None = None
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    without: Sequence[str] = ()

    def strikes(self, endpoint: str, client_id: str | None, body: bytes = b"") -> bool:
        """Whether this fault spoils such a call."""
        return (
            self.endpoint in {EVERY_ENDPOINT, endpoint}
            and self.client_id in {None, client_id}
            and (self.mentioning or "").encode() in body
            and self.times != 0
        )


@dataclass(frozen=True)
class Plan:
    """The faults that strike one call."""

    faults: Sequence[Fault] = field(default=())

    @property
    def latency_seconds(self) -> float:
        """How long the call is kept waiting."""
        return sum(fault.seconds for fault in self.faults if fault.kind is FaultKind.LATENCY)

    @property
    def forgery(self) -> FaultKind | None:
        """The first way in which the id token lies."""
        return next((fault.kind for fault in self.faults if fault.kind in FORGERIES), None)

    @property
    def refusal(self) -> Fault | None:
        """The first fault that answers instead of the endpoint."""
        kinds = {FaultKind.STATUS, FaultKind.RATE_LIMITED}
        return next((fault for fault in self.faults if fault.kind in kinds), None)

    def changed(self, kind: FaultKind, facts: Mapping[str, Any]) -> dict[str, Any]:
        """*facts* as the faults of this *kind* distort them."""
        changed = dict(facts)
        for fault in self.faults:
            if fault.kind is kind:
                changed.update(fault.changes)
                changed = {
                    name: fact for name, fact in changed.items() if name not in fault.without
                }
        return changed

    def status(self, kind: FaultKind) -> int | None:
        """The status that faults of this *kind* ask for."""
        statuses = (fault.status for fault in self.faults if fault.kind is kind)
        return next((status for status in statuses if status), None)

    def has(self, kind: FaultKind) -> bool:
        """Whether *kind* strikes this call."""
        return any(fault.kind is kind for fault in self.faults)


class Faults:
    """The failures planned for calls to come."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._planned: list[Fault] = []

    def add(self, endpoint: str, kind: str, **details: Unpack[FaultDetails]) -> None:
        """Plan *kind* for calls of *endpoint* (`"*"`: all). A misspelt name is a ValueError."""
        name = endpoint if endpoint == EVERY_ENDPOINT else Endpoint(endpoint)
        fault = Fault(name, FaultKind(kind), **details)
        with self._lock:
            self._planned.append(fault)

    def clear(self) -> None:
        """Work properly again."""
        with self._lock:
            self._planned.clear()

    def take(self, endpoint: str, client_id: str | None, body: bytes = b"") -> Plan:
        """The faults that strike this call, each now one use shorter."""
        with self._lock:
            struck = [fault for fault in self._planned if fault.strikes(endpoint, client_id, body)]
            for fault in struck:
                fault.times = None if fault.times is None else fault.times - 1
            return Plan(struck)
