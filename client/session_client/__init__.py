"""The client of the Mosaic session worker: what a backend app installs.

>>> client = SessionClient(broker_url="redis://…", app_id="shop", app_key="k1.…")
>>> client.authenticate(Password("ada", "…")).verdict
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
    Ticket,
    Tokens,
)
from session_client.begun import (
    Begun,
    CodeIssued,
    CodeSent,
    LinkIssued,
    LinkSent,
    SocialBegun,
    SocialVerified,
    WebauthnBegun,
)
from session_client.browser_cookie import BrowserCookie
from session_client.client import SessionClient
from session_client.contract import (
    LogoutScope,
    LogoutWait,
    Method,
    Reason,
    Task,
    Verdict,
    challenge_of,
)
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
from session_client.login_steps import FirstStep, Proof
from session_client.logins import Authenticate, Start, Wishes
from session_client.methods import (
    BeginSocial,
    BeginWebauthn,
    Code,
    IssueLink,
    IssueOtp,
    Link,
    MobileBiometrics,
    Password,
    SendLink,
    SendOtp,
    Social,
    Totp,
    VerifySocial,
    Webauthn,
)
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
    IssueTicket,
    Logout,
    Receipt,
    Register,
    Request,
    RevokeUser,
    SilentAuth,
    Status,
    new_request_id,
    new_verifier,
)
from session_client.spool import (
    LogoutSpool,
    SpoolCounts,
    SpooledLogout,
    SpoolStore,
    SqliteSpool,
)
from session_client.started import Started

__all__ = [
    "Answer",
    "AppKey",
    "Authenticate",
    "Authentication",
    "BeginSocial",
    "BeginWebauthn",
    "Begun",
    "BrokerUnavailable",
    "BrowserCookie",
    "Code",
    "CodeIssued",
    "CodeSent",
    "ConfirmNotice",
    "FirstStep",
    "InvalidAppKeyError",
    "InvalidArgumentError",
    "InvalidNotice",
    "IssueLink",
    "IssueOtp",
    "IssueTicket",
    "Link",
    "LinkIssued",
    "LinkSent",
    "Logout",
    "LogoutNotice",
    "LogoutReceipt",
    "LogoutScope",
    "LogoutSpool",
    "LogoutWait",
    "Method",
    "MobileBiometrics",
    "NotAcknowledged",
    "NotAnswered",
    "Password",
    "PendingAnswer",
    "Proof",
    "Reason",
    "Receipt",
    "Register",
    "Registration",
    "Request",
    "RevokeUser",
    "SealBroken",
    "SeenInMemory",
    "SeenNotices",
    "SendLink",
    "SendOtp",
    "SessionClient",
    "SessionClientError",
    "SessionInfo",
    "SessionList",
    "SilentAuth",
    "Social",
    "SocialBegun",
    "SocialVerified",
    "SpoolCounts",
    "SpoolStore",
    "SpooledLogout",
    "SqliteSpool",
    "Start",
    "Started",
    "Status",
    "Task",
    "Ticket",
    "Tokens",
    "Totp",
    "Verdict",
    "VerifySocial",
    "Webauthn",
    "WebauthnBegun",
    "Wishes",
    "challenge_of",
    "new_request_id",
    "new_verifier",
    "open_notice",
    "verify_logout_token",
]
