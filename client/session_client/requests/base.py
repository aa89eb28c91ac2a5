"""What every request has in common, and how one is written down to be sealed."""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, TypeVar

from session_client import contract, timeouts, times
from session_client.contract import Task
from session_client.errors import ConfigurationError
from session_client.reading import Answered

if TYPE_CHECKING:
    from session_client._core.app import App
    from session_client._core.call import Steps

R_co = TypeVar("R_co", covariant=True)

# What most calls wait for an answer; a login goes through gateways that are not Mosaic's own, and
# a logout is sent until it counts.
TIMEOUT_SECONDS: Final = 5.0
LONG_TIMEOUT_SECONDS: Final = 10.0
_REQUEST_ID_BYTES: Final = 16


def new_request_id() -> str:
    """Return a random request id: the idempotency key of one request."""
    return secrets.token_urlsafe(_REQUEST_ID_BYTES)


class NotGiven:
    """Stands for an argument that was left out, where None says something else."""

    def __repr__(self) -> str:
        return "NOT_GIVEN"


NOT_GIVEN: Final = NotGiven()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(ABC, Generic[R_co]):
    """What all requests have in common.

    ``timeout`` is in seconds and counts from the call; ``request_id`` is the idempotency key, a
    new one unless given.
    """

    task: ClassVar[Task]
    # Sent again, the same to the bit, until it is answered for good or its time is up: a message
    # may vanish inside the broker without an error.
    is_repeated: ClassVar[bool] = False
    # The worker's word that it is done is what counts: without it, `NotAcknowledged`.
    is_acknowledged: ClassVar[bool] = False

    timeout: float = field(default=TIMEOUT_SECONDS, repr=False)
    request_id: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        timeouts.lifetime(self.timeout)
        if self.request_id is not None and not contract.is_request_id(self.request_id):
            raise ConfigurationError("request_id: 16 to 64 letters, digits, - and _")
        self._check()

    def _check(self) -> None:
        """Raise `ConfigurationError` for arguments that fit no request."""

    @property
    def lifetime(self) -> timedelta:
        """For how long the worker may serve it."""
        longest = contract.MAX_LIFETIME[self.task]
        return longest if self.is_acknowledged else min(timeouts.lifetime(self.timeout), longest)

    @abstractmethod
    def payload(self) -> dict[str, Any]:
        """Return the payload on the wire, without what was not given."""

    @abstractmethod
    def read(self, answer: Answered) -> R_co:
        """Return what *answer* says about people. Raises ValueError and the like for any other."""

    def known_already(self) -> R_co | None:
        """Return what it comes to if the worker need not be asked."""
        return None

    def life(self, app: App, until: float) -> Steps[R_co]:
        """Return how it goes, step by step."""
        from session_client._core import call  # noqa: PLC0415 - that knows these classes

        return call.life(app, self, until)


def content_of(
    request: Request[Any], *, app_id: str, request_id: str, issued_at: datetime, lifetime: timedelta
) -> dict[str, Any]:
    """Return what is sealed: the request with everything the worker checks before it acts."""
    return {
        "v": contract.VERSION,
        "task": request.task.value,
        "app_id": app_id,
        "request_id": request_id,
        "issued_at": times.to_wire(issued_at),
        "deadline": times.to_wire(issued_at + lifetime),
        "payload": request.payload(),
    }


def given(**values: Any) -> dict[str, Any]:
    """Return *values* without those that were not given."""
    return {name: value for name, value in values.items() if value is not None}


def value_of(name: str | NotGiven | None) -> str | None:
    """Return *name*; None also when it was left out."""
    return None if isinstance(name, NotGiven) else name


def check_alone(*other_names: object) -> None:
    """Raise `ConfigurationError` if a session is named besides a browser without a token."""
    if any(name is not None for name in other_names):
        raise ConfigurationError("browser_token: alone, also where the browser has none")
