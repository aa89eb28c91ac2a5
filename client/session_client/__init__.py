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
from session_client.contract import LogoutScope, LogoutWait, Reason, Task, Verdict
from session_client.errors import (
    BrokerUnavailable,
    InvalidAppKeyError,
    InvalidArgumentError,
    InvalidNotice,
    NotAcknowledged,
    NotAnswered,
    SealBroken,
    SessionClientError,
)
from session_client.keys import AppKey
from session_client.notices import (
    LogoutNotice,
    SeenInMemory,
    SeenNotices,
    open_notice,
    verify_logout_token,
)
from session_client.pending import PendingAnswer
from session_client.requests import (
    ConfirmNotice,
    Logout,
    Receipt,
    Register,
    Request,
    SilentAuth,
    Status,
)
from session_client.spool import (
    LogoutSpool,
    SpoolCounts,
    SpooledLogout,
    SpoolStore,
    SqliteSpool,
)

__all__ = [
    "Answer",
    "AppKey",
    "Authentication",
    "BrokerUnavailable",
    "ConfirmNotice",
    "InvalidAppKeyError",
    "InvalidArgumentError",
    "InvalidNotice",
    "Logout",
    "LogoutNotice",
    "LogoutReceipt",
    "LogoutScope",
    "LogoutSpool",
    "LogoutWait",
    "NotAcknowledged",
    "NotAnswered",
    "PendingAnswer",
    "Reason",
    "Receipt",
    "Register",
    "Registration",
    "Request",
    "SealBroken",
    "SeenInMemory",
    "SeenNotices",
    "SessionClient",
    "SessionClientError",
    "SessionInfo",
    "SessionList",
    "SilentAuth",
    "SpoolCounts",
    "SpoolStore",
    "SpooledLogout",
    "SqliteSpool",
    "Status",
    "Task",
    "Tokens",
    "Verdict",
    "open_notice",
    "verify_logout_token",
]
