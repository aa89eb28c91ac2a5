"""Waiting for a logout to be confirmed: by Mosaic, or by every app that shares the session."""

from __future__ import annotations

import time
from typing import Final, Protocol

from session_client import timeouts
from session_client.answers import LogoutReceipt
from session_client.contract import LogoutWait, Verdict
from session_client.errors import BrokerUnavailable, NotAnswered, SealBroken

ASK_AGAIN_AFTER_SECONDS: Final = 0.1
ASK_AGAIN_AT_MOST_EVERY_SECONDS: Final = 1.0
# One question whose message got lost must not use up the time of all that would follow it.
QUESTION_TIMEOUT_SECONDS: Final = 2.0


class AskForReceipt(Protocol):
    """Asks the worker for a receipt as it stands: `SessionClient.receipt`."""

    def __call__(self, receipt_id: str, /, *, timeout: float) -> LogoutReceipt:
        """Return the receipt within *timeout* seconds."""
        ...


def wait_for(
    wanted: LogoutWait, receipt: LogoutReceipt, until: float, ask: AskForReceipt
) -> LogoutReceipt:
    """Ask again, at growing intervals, until *wanted* has come or *until* (`time.monotonic`).

    Returns the latest receipt either way, and raises nothing for a question that fails: the
    logout itself is committed, and this is only about news of it.
    """
    pause = ASK_AGAIN_AFTER_SECONDS
    while not receipt.has_reached(wanted):
        timeouts.sleep(pause, until)
        left = until - time.monotonic()
        if left <= 0:
            break
        pause = min(pause * 2, ASK_AGAIN_AT_MOST_EVERY_SECONDS)
        try:
            latest = ask(str(receipt.receipt_id), timeout=min(left, QUESTION_TIMEOUT_SECONDS))
        except (BrokerUnavailable, NotAnswered, SealBroken):
            continue
        if latest.verdict is Verdict.OK:
            receipt = latest
    return receipt
