"""What this process counts. Any room may call these functions; only a served worker keeps count.

Until a `Recorder` is set (`worker.monitoring` does, when a metrics port is configured) they do
nothing, so that the command line and beat carry none of it. No label may hold a user, a session,
a request id or a secret: labels are the members of enums, and the names of registered apps where
the operator is called.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final, Protocol

import structlog

from session_client.contract import Reason, Task, Verdict

log = structlog.get_logger()

ANSWERS: Final = "answers"
REPEATED: Final = "answers_repeated"
UNANSWERED: Final = "requests_unanswered"
REJECTED: Final = "messages_rejected"
CALLS: Final = "mosaic_calls"
SAVED: Final = "mosaic_calls_saved"
OPERATOR: Final = "operator_must_act"
BUGS: Final = "task_bugs"
LIMITED: Final = "sign_ins_limited"
UNCONFIRMED: Final = "logouts_unconfirmed"


class CallOutcome(StrEnum):
    """How a call to Mosaic ended."""

    OK = "ok"
    SESSION_GONE = "session_gone"
    USER_REFUSED = "user_refused"
    PROOF_REFUSED = "proof_refused"
    OPTIONS_REFUSED = "options_refused"
    CLIENT_REFUSED = "client_refused"
    RATE_LIMITED = "rate_limited"
    UNAVAILABLE = "unavailable"
    CONTRACT_BROKEN = "contract_broken"


class Saving(StrEnum):
    """Why Mosaic was not called although an app asked for something."""

    PREFLIGHT = "preflight"  # what we know already says no
    REUSE = "reuse"  # an answer from a moment ago still holds
    COALESCED = "coalesced"  # an identical call was under way


class UnansweredCause(StrEnum):
    """Why an app that asked got no answer at all."""

    NO_SENDER = "no_sender"  # the message does not say which app asks
    STORE_UNAVAILABLE = "store_unavailable"  # the app's keys, which seal an answer, are there
    APP_UNREADABLE = "app_unreadable"  # they do not open: our keys are wrong, or its row is damaged


class Rejection(StrEnum):
    """Why a message was dropped, and its sender not answered."""

    NOT_A_MESSAGE = "not_a_message"  # no queue item as Celery writes it
    TOO_LARGE = "too_large"
    UNDECODABLE = "undecodable"
    UNREADABLE = "unreadable"
    NOT_A_TASK = "not_a_task"  # it names no task, or an id that is none
    INVALID_TASK = "invalid_task"
    UNKNOWN_TASK = "unknown_task"
    WRONG_QUEUE = "wrong_queue"  # a task of the worker's own, where it never puts it
    ASKS_FOR_MORE = "asks_for_more"  # than to run one task
    WRONG_ARGUMENTS = "wrong_arguments"  # of a task of the worker's own


class Recorder(Protocol):
    """Keeps count. `worker.monitoring.meters.Meters` is one."""

    def record(self, meter: str, labels: tuple[str, ...], amount: float) -> None:
        """Add *amount*, or observe it."""
        ...


_recorder: Recorder | None = None


def record_with(recorder: Recorder | None) -> None:
    """Keep count with *recorder* from now on; with None, keep none."""
    global _recorder  # noqa: PLW0603 - a process has one
    _recorder = recorder


def answered(task: Task, verdict: Verdict, reason: Reason | None) -> None:
    """Count an answer to an app."""
    _record(ANSWERS, (task, verdict, reason or ""), 1)


def answer_repeated(task: Task) -> None:
    """Count an answer that was given before, to the same request, and is given again."""
    _record(REPEATED, (task,), 1)


def unanswered(task: Task, why: UnansweredCause) -> None:
    """Count a delivery of a request that got no answer. Its sender waits until its timeout."""
    _record(UNANSWERED, (task, why), 1)


def rejected(why: Rejection) -> None:
    """Count a message that was dropped before any task saw it."""
    _record(REJECTED, (why,), 1)


def operator_must_act(error: Exception, app_id: str = "") -> None:
    """Count a line of the log that calls the operator, by the type of its *error*.

    *app_id* is that of a registered app, never what a message claims; empty: it is about no app.
    """
    _record(OPERATOR, (type(error).__name__, app_id), 1)


def task_bug(task: Task) -> None:
    """Count a fault in this code that a request has met."""
    _record(BUGS, (task,), 1)


def sign_in_limited(limit: StrEnum) -> None:
    """Count that a browser has come to a limit of logins, once for as long as it holds."""
    _record(LIMITED, (limit,), 1)


def logout_unconfirmed(app_id: str) -> None:
    """Count a logout of the app *app_id* that Mosaic has not confirmed before all had expired."""
    _record(UNCONFIRMED, (app_id,), 1)


def mosaic_call(endpoint: StrEnum, outcome: CallOutcome, seconds: float) -> None:
    """Count one HTTP call to Mosaic that took *seconds*."""
    _record(CALLS, (endpoint, outcome), seconds)


def call_saved(kind: Saving) -> None:
    """Count a call to Mosaic that was not needed."""
    _record(SAVED, (kind,), 1)


def _record(meter: str, labels: tuple[str, ...], amount: float) -> None:
    if _recorder is None:
        return
    try:  # not `suppress`, which costs as much as the counting
        _recorder.record(meter, labels, amount)
    except Exception as error:  # noqa: BLE001 - counting must never cost an answer
        _tell_once(type(error).__name__)


@cache
def _tell_once(error: str) -> None:
    log.warning("metrics_not_counted", error=error)
