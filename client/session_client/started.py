"""The answer to a first step, typed by the step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Generic, cast

from session_client.answers import Answer
from session_client.begun import Begun
from session_client.contract import Verdict
from session_client.login_steps import FirstStep, S


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Answer, Generic[S]):
    """With verdict ``ok``, what has begun; else None, and the reason why."""

    gives: ClassVar[type[Begun]] = Begun
    begun: S | None = None

    @classmethod
    def from_wire(cls, content: dict[str, Any]) -> Started[S]:
        """Read an opened answer; only a yes has begun anything."""
        answer = Answer.from_wire(content)
        is_yes = answer.verdict is Verdict.OK
        begun = cls.gives.from_wire(content["data"]) if is_yes else None
        return cls(
            verdict=answer.verdict,
            request_id=answer.request_id,
            reason=answer.reason,
            retry_after=answer.retry_after,
            detail=answer.detail,
            begun=cast("S | None", begun),
        )


def answer_to(step: FirstStep[S]) -> type[Started[S]]:
    """Return how the answer to *step* is read."""
    gives: Any = step.gives
    return cast("type[Started[S]]", _reading(gives))


@cache
def _reading(gives: Any) -> type[Started[Any]]:
    return type("Started", (Started,), {"gives": gives, "__slots__": ()})
