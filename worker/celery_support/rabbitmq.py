"""What a RabbitMQ must be and let us do, asked over AMQP: nothing is declared, sent or taken.

Each right is asked for by a call that cannot succeed. RabbitMQ looks at the right first and refuses
with 403; a user who has it learns what else is wrong: that there is no such queue, or an argument.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from typing import Any, Final

from amqp import Message
from kombu import Connection

from session_client import contract
from worker.celery_support.other_brokers import connected

OLDEST: Final = (3, 10)  # the first in which a virtual host has a default queue type
_QUEUES: Final = tuple(queue.value for queue in contract.Queue)
# As RabbitMQ's permissions call it; by it notices go to the own queues of apps.
_DEFAULT_EXCHANGE: Final = "amq.default"
_NO_RIGHT, _NOT_FOUND = 403, 404
_CONFIRM_SECONDS: Final = 2
_DIFFERS: Final = re.compile(r"inequivalent arg '([\w-]{1,40})'")
_NOWHERE: Final = f"mosaic-sessions-doctor-{secrets.token_hex(4)}"  # no queue is bound by it

_Call = Callable[[Any], object]


def product_and_version(url: str) -> tuple[str, str]:
    """Return what kind of broker it is, as it says, and its version."""
    with connected(url) as connection:
        amqp: Any = connection.connection
        properties = amqp.server_properties
        return str(properties.get("product"))[:40], str(properties.get("version"))[:40]


def numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of *version*."""
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


# --- rights


def missing_rights(url: str) -> dict[str, list[str]]:
    """Return what our user may not do, and with which queues and exchanges.

    Whether it may write is not asked while the broker takes nothing.
    """
    calls: dict[str, dict[str, list[_Call]]] = {
        "configure": {q: [_of(q, _configure_queue), _of(q, _configure_exchange)] for q in _QUEUES},
        "write": {q: [_publisher(q)] for q in _QUEUES} | {_DEFAULT_EXCHANGE: [_publisher("")]},
        "read": {q: [_of(q, _consume)] for q in _QUEUES},
    }
    if is_full(url):
        del calls["write"]
    with connected(url) as connection:
        refused = {
            right: [name for name, tries in named.items() if _is_refused(connection, tries)]
            for right, named in calls.items()
        }
    return {right: names for right, names in refused.items() if names}


def _is_refused(connection: Connection, calls: list[_Call]) -> bool:
    return any(_refusal_of(connection, call)[0] == _NO_RIGHT for call in calls)


def _of(queue: str, call: Callable[[Any, str], object]) -> _Call:
    return lambda channel: call(channel, queue)


def _configure_queue(channel: Any, queue: str) -> None:
    wrong = {"x-dead-letter-exchange": 1}
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments=wrong)


def _configure_exchange(channel: Any, queue: str) -> None:
    wrong = {"alternate-exchange": 1}
    channel.exchange_declare(queue, "direct", durable=True, auto_delete=False, arguments=wrong)


def _consume(channel: Any, queue: str) -> None:
    channel.basic_consume(queue, arguments={"x-priority": "none"})


def _publisher(exchange: str) -> _Call:
    def publish(channel: Any) -> None:
        channel.basic_publish_confirm(
            Message(""), exchange, _NOWHERE, confirm_timeout=_CONFIRM_SECONDS
        )

    return publish


def _refusal_of(connection: Connection, call: _Call) -> tuple[int, str]:
    """Return with which code and words RabbitMQ refuses *call*; 0 where it does not."""
    channel: Any = connection.channel()
    try:
        call(channel)
    except connection.channel_errors as refusal:
        return int(getattr(refusal, "code", 0) or 0), str(refusal)
    channel.close()
    return 0, ""


# --- whether it takes messages


def is_full(url: str) -> bool:
    """Whether it takes no messages: its memory or its disk is used up as far as it may be."""
    with connected(url) as connection:
        try:
            _refusal_of(connection, _publisher(""))
        except TimeoutError:
            connection.collect()  # it would not confirm a closing either
            return True
    return False


# --- queues


def strange_queues(url: str) -> dict[str, str]:
    """Return the queues and exchanges that a worker cannot declare as they are, and why not."""
    with connected(url) as connection:
        found = {queue: _strange(connection, queue) for queue in _QUEUES}
    return {queue: why for queue, why in found.items() if why is not None}


def _strange(connection: Connection, queue: str) -> str | None:
    for there, declare in ((_is_queue, _declare_queue), (_is_exchange, _declare_exchange)):
        if _refusal_of(connection, _of(queue, there))[0] == _NOT_FOUND:
            continue  # declared here it might become of another kind than is meant
        code, text = _refusal_of(connection, _of(queue, declare))
        if differs := _DIFFERS.search(text):
            return differs[1]
        if code not in {0, _NO_RIGHT}:
            return f"refused with {code}"
    return None


def kinds(url: str) -> dict[str, bool]:
    """Return the queues that are there, and whether each is a quorum queue."""
    with connected(url) as connection:
        return {
            queue: _refusal_of(connection, _of(queue, _declare_quorum))[0] == 0
            for queue in _QUEUES
            if _refusal_of(connection, _of(queue, _is_queue))[0] != _NOT_FOUND
        }


def _is_queue(channel: Any, queue: str) -> None:
    channel.queue_declare(queue, passive=True)


def _is_exchange(channel: Any, queue: str) -> None:
    channel.exchange_declare(queue, "direct", passive=True)


def _declare_queue(channel: Any, queue: str) -> None:
    channel.queue_declare(queue, durable=True, auto_delete=False)


def _declare_exchange(channel: Any, queue: str) -> None:
    channel.exchange_declare(queue, "direct", durable=True, auto_delete=False)


def _declare_quorum(channel: Any, queue: str) -> None:
    kind = {"x-queue-type": "quorum"}
    channel.queue_declare(queue, durable=True, auto_delete=False, arguments=kind)
