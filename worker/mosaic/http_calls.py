"""HTTP with Mosaic: the kinds of call we make, failures in the words of our errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from session_client.contract import MAX_ANSWER_BYTES
from worker import metrics
from worker.errors import MosaicContractBroken, MosaicTimedOut, MosaicUnavailable
from worker.http_client import HttpAnswer, HttpClient, HttpRequest
from worker.metrics import CallOutcome
from worker.mosaic.asked import Endpoint
from worker.mosaic.deadline import Deadline

__all__ = ["MAX_BODY_BYTES", "HttpAnswer", "MosaicHttp"]

# Tokens go on to an app in an answer of at most so much, sealed, which makes four bytes of three.
MAX_BODY_BYTES: Final = MAX_ANSWER_BYTES * 3 // 4 - 64 * 1024


class MosaicHttp:
    """The process's connections to Mosaic. Make it after the fork; safe for all threads."""

    def __init__(self, ca_certificates: str | None = None, proxy_url: str | None = None) -> None:
        self._client = HttpClient(
            max_body_bytes=MAX_BODY_BYTES, ca_certificates=ca_certificates, proxy_url=proxy_url
        )

    def close(self) -> None:
        """Close every connection."""
        self._client.close()

    def get(self, endpoint: Endpoint, url: str, deadline: Deadline) -> HttpAnswer:
        """Fetch *url*. Raises `MosaicUnavailable` and `MosaicContractBroken`."""
        return self._send(endpoint, HttpRequest("GET", url), deadline)

    def post_form(
        self, endpoint: Endpoint, url: str, fields: Mapping[str, str], deadline: Deadline
    ) -> HttpAnswer:
        """Send a form. Raises as `get` does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        content = urlencode(fields).encode()
        return self._send(endpoint, HttpRequest("POST", url, headers, content), deadline)

    def post_json(
        self,
        endpoint: Endpoint,
        url: str,
        payload: Mapping[str, Any],
        bearer: str | None,
        deadline: Deadline,
    ) -> HttpAnswer:
        """Send JSON, with a client access token where there is to be one. Raises as `get` does."""
        headers = {"Content-Type": "application/json"}
        if bearer is not None:
            headers["Authorization"] = f"Bearer {bearer}"
        content = json.dumps(payload).encode()
        return self._send(endpoint, HttpRequest("POST", url, headers, content), deadline)

    def without_body(  # noqa: PLR0913, PLR0917 - what a call is made of
        self,
        endpoint: Endpoint,
        method: str,
        url: str,
        bearer: str,
        deadline: Deadline,
        shown_url: str,
    ) -> HttpAnswer:
        """Ask with a client access token and nothing else. Raises as `get` does.

        *shown_url* is what errors name in place of *url*, which has a user id in it: they end in
        logs and in the database.
        """
        headers = {"Authorization": f"Bearer {bearer}"}
        return self._send(endpoint, HttpRequest(method, url, headers), deadline, shown_url)

    def _send(
        self,
        endpoint: Endpoint,
        request: HttpRequest,
        deadline: Deadline,
        shown_url: str | None = None,
    ) -> HttpAnswer:
        deadline.require()
        answer = self._client.send(request, deadline)
        if isinstance(answer, HttpAnswer):
            return answer  # counted by what it means, in `reading.Reading`
        metrics.mosaic_call(endpoint, CallOutcome.UNAVAILABLE, answer.seconds)
        if answer.is_url_unusable:
            raise MosaicContractBroken(f"{endpoint}: an address of this app is no http(s) URL")
        kind = MosaicTimedOut if answer.is_timeout else MosaicUnavailable
        failure = kind(f"{endpoint} at {shown_url or request.url}: no answer ({answer.cause})")
        failure.was_sent = answer.is_sent
        raise failure
