"""What a message may tell Celery itself, before anybody has proven who sent it.

Celery obeys its own fields from whoever can publish: tasks to send when this one is done, also
such as an app may not send; an hour to begin at, for which the worker would hold the message, and
hold it once more at each redelivery; limits of its own. Apps need none of them, so none is obeyed.
It also brings tasks of its own (``celery.group`` and the like), which send whatever they are told.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from session_client import contract

# All that is needed to run a task, and to run it again a little later.
_HEADERS: Final = ("task", "id", "retries", "eta", "expires")
# In place of what the arguments look like, or Celery would look for itself and show it.
_HIDDEN: Final = {"argsrepr": "-", "kwargsrepr": "-"}
_MOST_RETRIES: Final = 100
_LONGEST_NAME: Final = 155  # Celery's own limit for ids and task names in its result tables
# Our own retries wait for 30 s at most; the rest is for clocks that differ.
_LONGEST_WAIT: Final = timedelta(minutes=2)
_OF_APPS: Final = frozenset(task.value for task in contract.Task)
_FOR_APPS: Final = frozenset(queue.value for queue in contract.QUEUE_OF.values())
# What Celery always writes beside the arguments, though it is empty.
_AFTERWARDS: Final = frozenset({"callbacks", "errbacks", "chain", "chord"})


def reduce(message: Any) -> str | None:
    """Leave of the headers what is needed. Return why *message* must not be run, if so.

    Raises what reading a malformed message raises.
    """
    headers = message.headers
    if not _is_addressed(headers):
        return "not_a_task"
    if not _may_lie_in(message.delivery_info["routing_key"], headers["task"]):
        return "unknown_task"  # to those who may write there
    if not (_is_patient(headers) and _is_alone(message.payload)):
        return "asks_for_more"
    message.headers = {name: headers[name] for name in _HEADERS if name in headers} | _HIDDEN
    return None


def _is_addressed(headers: Any) -> bool:
    """Whether the headers name a task and an id in words; Celery logs both as they are."""
    if not isinstance(headers, dict):
        return False
    names = (headers.get("task"), headers.get("id"))
    return all(isinstance(name, str) and 0 < len(name) <= _LONGEST_NAME for name in names)


def _may_lie_in(queue: str, task: str) -> bool:
    """Whether the task may be sent by those who may write to the queue."""
    return task in _OF_APPS if queue in _FOR_APPS else not task.startswith("celery.")


def _is_patient(headers: dict[str, Any]) -> bool:
    """Whether it is to run now, or soon, and not more often than we would try ourselves."""
    retries, eta = headers.get("retries"), headers.get("eta")
    if not (retries is None or (type(retries) is int and 0 <= retries <= _MOST_RETRIES)):
        return False
    return eta is None or datetime.fromisoformat(eta) <= datetime.now(UTC) + _LONGEST_WAIT


def _is_alone(content: Any) -> bool:
    """Whether nothing is to be sent afterwards."""
    if not isinstance(content, list) or len(content) != len(("args", "kwargs", "embed")):
        return False
    embed = content[2]
    return isinstance(embed, dict) and embed.keys() <= _AFTERWARDS and not any(embed.values())
