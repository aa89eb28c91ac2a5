"""Raw messages as they lie in a Redis queue, good and malformed, put there by hand."""

from __future__ import annotations

import base64
import json
import uuid
from typing import Any


def raw(
    task: str,
    kwargs: dict[str, Any] | None = None,
    *,
    content: Any = None,
    body: str | None = None,
    content_type: str = "application/json",
    content_encoding: str = "utf-8",
    headers: Any = ...,
    more_headers: dict[str, Any] | None = None,
) -> bytes:
    """Return one queue item in Celery's protocol 2, with the parts that are given replaced."""
    message_id = uuid.uuid4().hex
    if content is None:
        content = [[], kwargs or {}, {}]
    if headers is ...:
        headers = {"lang": "py", "task": task, "id": message_id, **(more_headers or {})}
    item = {
        "body": body if body is not None else b64(json.dumps(content).encode()),
        "content-encoding": content_encoding,
        "content-type": content_type,
        "headers": headers,
        "properties": {
            "correlation_id": message_id,
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "auth"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": uuid.uuid4().hex,
        },
    }
    return json.dumps(item).encode()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()
