"""HTTP for callers who must not hang, leak or be led elsewhere: bounded in time and size."""

from __future__ import annotations

from worker.http_client.client import HttpAnswer, HttpClient, HttpRequest, NoAnswer
from worker.http_client.deadline import Deadline
from worker.http_client.dns import Resolve, Resolver, system_addresses
from worker.http_client.headers import MAX_RETRY_AFTER_SECONDS, http_date

__all__ = [
    "MAX_RETRY_AFTER_SECONDS",
    "Deadline",
    "HttpAnswer",
    "HttpClient",
    "HttpRequest",
    "NoAnswer",
    "Resolve",
    "Resolver",
    "http_date",
    "system_addresses",
]
