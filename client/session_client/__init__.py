"""The client of the Mosaic session worker: what a backend app installs.

>>> client = SessionClient(broker_url="redis://…", app_id="shop", app_key="k1.…")
>>> client.silent_auth(user_id="ada").verdict
<Verdict.AUTHENTICATED: 'authenticated'>
"""

from __future__ import annotations

from session_client.answers import (
    Answer,
    Authentication,
    LogoutReceipt,
    Registration,
    SessionInfo,
    SessionList,
    Tokens,
)
from session_client.client import SessionClient
from session_client.contract import LogoutScope, Reason, Task, Verdict
from session_client.errors import (
    BrokerUnavailable,
    InvalidAppKeyError,
    InvalidArgumentError,
    NotAcknowledged,
    NotAnswered,
    SealBroken,
    SessionClientError,
)
from session_client.keys import AppKey
from session_client.pending import PendingAnswer
from session_client.requests import Logout, Register, Request, SilentAuth, Status

__all__ = [
    "Answer",
    "AppKey",
    "Authentication",
    "BrokerUnavailable",
    "InvalidAppKeyError",
    "InvalidArgumentError",
    "Logout",
    "LogoutReceipt",
    "LogoutScope",
    "NotAcknowledged",
    "NotAnswered",
    "PendingAnswer",
    "Reason",
    "Register",
    "Registration",
    "Request",
    "SealBroken",
    "SessionClient",
    "SessionClientError",
    "SessionInfo",
    "SessionList",
    "SilentAuth",
    "Status",
    "Task",
    "Tokens",
    "Verdict",
]
