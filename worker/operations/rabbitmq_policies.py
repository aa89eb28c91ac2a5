"""Policies of a RabbitMQ that would lose jobs. AMQP does not tell them, its management API does."""

from __future__ import annotations

import base64
import json
from typing import Any, Final
from urllib.parse import quote, unquote, urlsplit

from session_client import contract
from worker.errors import ConfigurationError, NotReady
from worker.http_client import Deadline, HttpAnswer, HttpClient, HttpRequest
from worker.settings.environment import variable_name

# What a queue that reaches its end does with the oldest, or the next; a publisher is not told.
LOSE_JOBS: Final = ("max-length", "max-length-bytes", "message-ttl", "expires")
_SETTING: Final = variable_name("rabbitmq_api_url")
_MAX_BODY_BYTES: Final = 10_000_000  # it lists all queues of the virtual host
_TIMEOUT_SECONDS: Final = 5.0
_OK: Final = 200


def harmful(api_url: str, broker_url: str, ca_certificates: str | None) -> dict[str, list[str]]:
    """Return for each of our queues what its policies say that loses jobs, if any do.

    Raises `ConfigurationError` and `NotReady`.
    """
    host = urlsplit(broker_url).path.removeprefix("/") or "/"
    found = {}
    for queue in _queues(api_url, unquote(host), ca_certificates):
        policy = queue.get("effective_policy_definition") or {}
        if queue.get("name") in set(contract.Queue) and (
            bad := [n for n in LOSE_JOBS if n in policy]
        ):
            found[str(queue["name"])] = bad
    return found


def _queues(api_url: str, host: str, ca_certificates: str | None) -> list[dict[str, Any]]:
    parts = urlsplit(api_url)
    place = parts.netloc.rpartition("@")[2]
    user = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
    path = f"/api/queues/{quote(host, safe='')}?columns=name,effective_policy_definition"
    request = HttpRequest(
        "GET",
        f"{parts.scheme}://{place}{parts.path.rstrip('/')}{path}",
        {"Authorization": f"Basic {base64.b64encode(user.encode()).decode()}"},
    )
    client = HttpClient(max_body_bytes=_MAX_BODY_BYTES, ca_certificates=ca_certificates)
    try:
        answer = client.send(request, Deadline.after(_TIMEOUT_SECONDS))
    finally:
        client.close()
    if not isinstance(answer, HttpAnswer):
        raise NotReady(
            f"RabbitMQ's management API does not answer ({answer.cause}): is the plug-in "
            f"rabbitmq_management enabled, and is {_SETTING} right?"
        )
    if answer.status != _OK:
        raise ConfigurationError(
            f"RabbitMQ's management API answers {answer.status}: are user and password in "
            f"{_SETTING} right, has that user the tag `monitoring`, and is the virtual host there?"
        )
    try:
        queues = json.loads(answer.body or b"")
        return [queue for queue in queues if isinstance(queue, dict)]
    except (ValueError, TypeError):
        raise ConfigurationError(f"{_SETTING} leads to what is no management API") from None
