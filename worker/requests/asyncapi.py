"""Writes `docs/asyncapi.json`: ``python -m worker.requests.asyncapi > docs/asyncapi.json``.

The contract in a form that other languages' tools read (AsyncAPI 3.1). Requests are described by
the models they are checked with. What a schema cannot say stands in docs/contract.md.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from session_client import contract, methods
from session_client.contract import LOGOUT_NOTICE_TASK, Queue, Reason, Task, Verdict
from session_client.login_steps import LoginStep, limits_of
from worker.requests.answer_data import DATA, Data, Nothing
from worker.requests.commands import COMMANDS

_SCHEMAS: Final = "#/components/schemas/"
_REQUEST_ID: Final = {"type": "string", "pattern": f"^{contract.REQUEST_ID_PATTERN}$"}
_APP_ID: Final = {"type": "string", "pattern": f"^{contract.APP_ID_PATTERN}$"}
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT: Final = {"type": "string"}
_DESCRIPTION: Final = """\
One request is one Celery message on a queue of the worker's broker. What it says is sealed with the
app's key (a compact JWE), and so is the answer. Each message below names its sealed content in
`x-sealed-content`. docs/contract.md says what a schema cannot."""


def document() -> dict[str, Any]:
    """Return the document. Operations are the app's: it sends requests, and receives notices."""
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "The contract between apps and the session worker",
            "version": f"{contract.VERSION}.0.0",
            "description": _DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "channels": _channels(),
        "operations": _operations(),
        "components": {"messages": _messages(), "schemas": _schemas()},
    }


def _channels() -> dict[str, Any]:
    by_queue: dict[Queue, list[Task]] = {}
    for task, queue in contract.QUEUE_OF.items():
        by_queue.setdefault(queue, []).append(task)
    queues = {
        queue.value: {
            "address": queue.value,
            "messages": {task.value: _ref(f"#/components/messages/{task}") for task in tasks},
        }
        for queue, tasks in by_queue.items()
    }
    return queues | {
        "replies": {
            "address": "reply:{app_id}:{answer_to}",
            "description": "A Redis list. It expires 60 s after the last push.",
            "parameters": {
                "app_id": {"description": "The app's name at the worker."},
                "answer_to": {"description": "The header of that name, or else the request id."},
            },
            "messages": {
                name: _ref(f"#/components/messages/{name}")
                for name in (*map(_answer_to, contract.QUEUE_OF), "refusal")
            },
        },
        "notices": {
            "address": "{notice_queue}",
            "parameters": {"notice_queue": {"description": "The queue the operator gave the app."}},
            "messages": {LOGOUT_NOTICE_TASK: _ref(f"#/components/messages/{LOGOUT_NOTICE_TASK}")},
        },
    }


def _operations() -> dict[str, Any]:
    requests = {
        task.value: {
            "action": "send",
            "channel": _ref(f"#/channels/{queue}"),
            "summary": _summary(COMMANDS[task]),
            "messages": [_ref(f"#/channels/{queue}/messages/{task}")],
            "reply": {
                "channel": _ref("#/channels/replies"),
                "messages": [
                    _ref(f"#/channels/replies/messages/{name}")
                    for name in (_answer_to(task), "refusal")
                ],
            },
        }
        for task, queue in contract.QUEUE_OF.items()
    }
    return requests | {
        LOGOUT_NOTICE_TASK: {
            "action": "receive",
            "channel": _ref("#/channels/notices"),
            "summary": "End the app's own sessions, then confirm it.",
            "messages": [_ref(f"#/channels/notices/messages/{LOGOUT_NOTICE_TASK}")],
        }
    }


def _messages() -> dict[str, Any]:
    requests = {
        task.value: _celery_message(task.value, _ref(f"{_SCHEMAS}{_request_of(task)}"))
        for task in contract.QUEUE_OF
    }
    answers = {
        _answer_to(task): {
            "payload": {"type": "string", "description": "A compact JWE."},
            "x-sealed-content": _ref(f"{_SCHEMAS}{_answer_to(task)}"),
        }
        for task in contract.QUEUE_OF
    }
    refused = {
        "v": {"const": contract.VERSION},
        "verdict": {"const": Verdict.UNAUTHORIZED.value},
        "reason": _TEXT,
        "request_id": _REQUEST_ID,
    }
    return (
        requests
        | answers
        | {
            "refusal": {
                "summary": "In clear, for who cannot be proven: believe nothing else in clear.",
                "payload": _object(refused, optional=()),
            },
            LOGOUT_NOTICE_TASK: _celery_message(
                LOGOUT_NOTICE_TASK, _ref(f"{_SCHEMAS}{LOGOUT_NOTICE_TASK}")
            ),
        }
    )


def _celery_message(task: str, sealed: Mapping[str, Any]) -> dict[str, Any]:
    """Return a message of Celery's protocol 2, as it lies on the broker."""
    headers = {
        "task": {"const": task},
        "id": {**_REQUEST_ID, "description": "The request id."},
        contract.ANSWER_TO: {**_REQUEST_ID, "description": "Whose list the answer is pushed on."},
        contract.PUBLISHED_AT: _TIME,
    }
    body = {
        "type": "string",
        "contentEncoding": "base64",
        "contentMediaType": "application/json",
        "description": 'Base64 of `[[], {"app_id": …, "envelope": …}, {}]`; the envelope is a JWE.',
    }
    payload = {
        "body": body,
        "content-encoding": {"const": "utf-8"},
        "content-type": {"const": "application/json"},
        "headers": _object(headers, optional=(contract.ANSWER_TO, contract.PUBLISHED_AT)),
        "properties": {"type": "object"},
    }
    return {"payload": _object(payload, optional=()), "x-sealed-content": sealed}


def _schemas() -> dict[str, Any]:
    commands = [(command, "validation") for command in COMMANDS.values()]
    kinds: set[type[Data]] = {kind for by in DATA.values() for kind in by.values()} | {Nothing}
    data = [(kind, "validation") for kind in sorted(kinds, key=lambda kind: kind.__name__)]
    names, definitions = models_json_schema([*commands, *data], ref_template=_SCHEMAS + "{model}")  # type: ignore[list-item]
    schemas: dict[str, Any] = dict(definitions["$defs"])
    for task, command in COMMANDS.items():
        schemas[_request_of(task)] = _content(task, {"payload": names[command, "validation"]})
        schemas[_answer_to(task)] = _answer(task, names)
    schemas["LoginFields"] = {"anyOf": [_fields_of(step) for step in methods.TABLE]}
    for command in (COMMANDS[Task.START], COMMANDS[Task.AUTHENTICATE]):
        schemas[command.__name__]["properties"]["fields"] = _ref(f"{_SCHEMAS}LoginFields")
    notice = {
        "v": {"const": contract.VERSION},
        "task": {"const": LOGOUT_NOTICE_TASK},
        "app_id": _APP_ID,
        "notice_id": {"type": "string", "format": "uuid"},
        "issued_at": _TIME,
        "user_id": _TEXT,
        "session_ref": {"type": "string", "format": "uuid"},
        "cause": {**_TEXT, "description": "An open set."},
        "ended_at": _TIME,
    }
    schemas[LOGOUT_NOTICE_TASK] = _object(notice, optional=())
    return dict(sorted(schemas.items()))


def _content(task: Task, members: Mapping[str, Any]) -> dict[str, Any]:
    times = {"issued_at": _TIME, "deadline": _TIME}
    return _object({**_head(task), **times, **members}, optional=())


def _answer(task: Task, names: Mapping[Any, Any]) -> dict[str, Any]:
    """Return an answer: which data it holds goes by its verdict."""
    members = {
        **_head(task),
        "answered_at": _TIME,
        "verdict": {"enum": [verdict.value for verdict in Verdict]},
        "reason": {"type": "string", "examples": [reason.value for reason in Reason]},
        "retry_after": {"type": "number", "description": "Seconds."},
        "detail": {**_TEXT, "description": "For a developer's eyes; its text may change."},
        "data": {"type": "object"},
    }
    by_verdict = [
        {
            "if": {"properties": {"verdict": {"const": verdict.value}}},
            "then": {"properties": {"data": names[kind, "validation"]}},
        }
        for verdict, kind in DATA[task].items()
    ]
    optional = ("reason", "retry_after", "detail", "data")
    # A newer worker may say more.
    return {**_object(members, optional=optional), "additionalProperties": True} | (
        {"allOf": by_verdict} if by_verdict else {}
    )


def _head(task: Task) -> dict[str, Any]:
    return {
        "v": {"const": contract.VERSION},
        "task": {"const": task.value},
        "app_id": _APP_ID,
        "request_id": _REQUEST_ID,
    }


def _fields_of(step: type[LoginStep]) -> dict[str, Any]:
    fields = limits_of(step)
    members = {
        name: {"type": "string", "minLength": 1, "maxLength": limits.longest}
        | ({"enum": list(limits.one_of)} if limits.one_of else {})
        | ({"writeOnly": True} if limits.is_secret else {})
        for name, limits in fields.items()
    }
    # A step-up names no user: the session does.
    optional = [n for n, limits in fields.items() if limits.names_user or not limits.is_required]
    return {"title": f"{step.method} {step.step}", **_object(members, optional=optional)}


def _object(members: Mapping[str, Any], *, optional: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(members),
        "required": [name for name in members if name not in optional],
        "additionalProperties": False,
    }


def _ref(target: str) -> dict[str, str]:
    return {"$ref": target}


def _request_of(task: Task) -> str:
    return f"{task}.request"


def _answer_to(task: Task) -> str:
    return f"{task}.answer"


def _summary(command: type[Any]) -> str:
    return (command.__doc__ or "").partition("\n")[0]


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")
